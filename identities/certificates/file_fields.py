"""Form fields for uploaded or pasted certificate files: limited in size, and never rendered with their content."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from as2certs import pki


class NoEchoTextarea(forms.Textarea):
    """A text box that is rendered empty, because the submitted text may contain a private key."""

    def format_value(self, value: Any) -> str:
        return ""


class FileContentField(forms.FileField):
    """The content of an uploaded file as bytes, at most ``pki.MAX_FILE_BYTES``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_empty_file=True, widget=forms.FileInput, **kwargs)

    def clean(self, data: Any, initial: Any = None) -> bytes | None:
        upload = super().clean(data, initial)
        if upload is None:
            return None
        try:
            return pki.read_bounded(upload)
        except pki.PkiError as error:
            raise ValidationError(str(error)) from error


class PastedContentField(forms.CharField):
    """Pasted text as bytes; None when nothing was pasted."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", NoEchoTextarea(attrs={"rows": 5, "class": "font-monospace small"}))
        super().__init__(max_length=pki.MAX_FILE_BYTES, **kwargs)

    def clean(self, value: Any) -> bytes | None:
        text = super().clean(value)
        return text.encode() if text else None
