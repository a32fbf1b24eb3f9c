"""The bases of all forms: fields of one line refuse what breaks a line, hides, or turns the direction of reading."""

from __future__ import annotations

from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from as2certs.one_line import first_refused

M = TypeVar("M", bound=models.Model)


def validate_one_line(value: Any) -> None:
    """Raise ValidationError for text with a line break, a control character or an invisible one."""
    if code := first_refused(str(value)):
        raise ValidationError(
            f"It holds a line break or a character that can’t be seen ({code}): type it anew, in one line.",
            code="one_line",
        )


def is_one_line_field(field: forms.Field) -> bool:
    """Return whether people type one line of text into a field: no text area, no password, nothing hidden."""
    kind = getattr(field.widget, "input_type", "hidden")
    return isinstance(field, forms.CharField) and kind not in ("hidden", "password")


class OneLineFieldsMixin(forms.BaseForm):
    """Validate each field of one line; goes first among the bases of forms that libraries provide."""

    def full_clean(self) -> None:
        for field in self.fields.values():  # here, since some are added after ``__init__``
            if is_one_line_field(field) and validate_one_line not in field.validators:
                field.validators = [*field.validators, validate_one_line]
        super().full_clean()


class SafeForm(OneLineFieldsMixin, forms.Form):
    """The base of our forms."""


class SafeModelForm(OneLineFieldsMixin, forms.ModelForm[M]):
    """The base of our forms of a model, in Django admin too."""
