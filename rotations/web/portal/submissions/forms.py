"""The forms on which a partner submits its new certificate. The input is shown only after it was parsed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms

from as2certs.forms import SafeForm
from identities.certificates.file_fields import FileContentField, PastedContentField
from partners.models import Partner
from rotations.errors import PrivateKeySubmitted, SubmissionRefused
from rotations.exchange.submitted_certificates import ReadSubmission, read_submission

#: The uses of a certificate, with their labels for partners and the roles they stand for.
CERTIFICATE_USES: dict[str, tuple[str, tuple[str, ...]]] = {
    "both": ("signing and encryption: your system uses one certificate for both", ("verify", "encrypt")),
    "signing": ("signing only: your messages and receipts (MDNs)", ("verify",)),
    "encryption": ("encryption only: what we send to you", ("encrypt",)),
}


def use_for_roles(roles: tuple[str, ...]) -> str:
    """Return the name of the use that these roles stand for."""
    return next(name for name, (_, served) in CERTIFICATE_USES.items() if set(served) == set(roles))


class SubmissionForm(SafeForm):
    """A new certificate, as a file or as text.

    Once valid, ``reading`` is the parsed certificate. ``key_shown`` says that the input contained a private key, which
    is stored nowhere.
    """

    certificate_file = FileContentField(
        required=False,
        label="The certificate’s file",
        help_text=".cer, .crt, .pem, .der or .p7b, at most 1 MiB. Only the certificate, never its private key.",
    )
    certificate_text = PastedContentField(
        required=False,
        label="or paste it as text",
        help_text="The block from BEGIN CERTIFICATE to END CERTIFICATE.",
    )

    reading: ReadSubmission

    def __init__(self, partner: Partner, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.partner, self.now = partner, now
        self.key_shown = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        file, text = cleaned.get("certificate_file"), cleaned.get("certificate_text")
        if file is not None and text is not None:
            self.add_error("certificate_text", "There is a file and pasted text: give only one of them.")
        elif file is None and text is None and not self.errors:
            self.add_error("certificate_file", "Choose the certificate’s file, or paste its text below.")
        if self.errors:
            return cleaned
        field = "certificate_file" if file is not None else "certificate_text"
        data: bytes = cleaned[field]
        try:
            self.reading = read_submission(self.partner, data, now=self.now)
        except SubmissionRefused as error:
            self.key_shown = isinstance(error, PrivateKeySubmitted)
            self.add_error(field, str(error))
        return cleaned


class ConfirmSubmissionForm(SafeForm):
    """The confirmation of the parsed certificate, and its use."""

    pem = forms.CharField(widget=forms.HiddenInput)
    use = forms.ChoiceField(
        label="What it is for",
        choices=[(name, label) for name, (label, _) in CERTIFICATE_USES.items()],
        widget=forms.RadioSelect,
        error_messages={
            "required": "Say what it is for.",
            "invalid_choice": "Say what it is for: one of these.",
        },
    )

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate that the page carries along."""
        return str(self["pem"].value() or "").encode()

    @property
    def roles(self) -> tuple[str, ...]:
        return CERTIFICATE_USES[self.cleaned_data["use"]][1]
