"""Forms to upload a certificate, generate one, import a CA's response, or export a private key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from crispy_forms.layout import Column, Fieldset, Row
from django import forms
from django.db import transaction

from as2certs import pki
from as2certs.accounts.forms import form_helper
from as2certs.audit.recording import Actor
from as2certs.forms import SafeForm
from identities.certificates import single_import
from identities.certificates.checks import check_for_station, find_predecessor
from identities.certificates.file_fields import FileContentField, PastedContentField
from identities.certificates.generation import RequestedKey
from identities.certificates.key_export import PRIVATE_KEY_FORMATS
from identities.certificates.single_import import CertificateImportResult
from identities.forms import SUBJECT_ROWS, CountryField
from identities.models import CertificateRequest, Identity
from identities.role_assignments import certificates_by_role
from identities.stations import AbstractCertificate, AbstractStation

MIN_FILE_PASSWORD = 10

ROLE_LABELS = {
    "sign": "sign – our messages and MDNs are signed with it",
    "decrypt": "decrypt – partners encrypt to it, we decrypt with its key",
    "verify": "verify – we check their signatures with it",
    "encrypt": "encrypt – we encrypt our messages to it",
}


def password_field(label: str, *, new: bool, **kwargs: Any) -> forms.CharField:
    """Return a field for a password that is never rendered and keeps its spaces."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password" if new else "off"})
    return forms.CharField(label=label, strip=False, widget=widget, **kwargs)


class RolesField(forms.MultipleChoiceField):
    """Check boxes for the roles of a station."""

    def __init__(self, roles: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(
            choices=[(role, ROLE_LABELS[role]) for role in roles],
            initial=list(roles),
            label="What it is for",
            widget=forms.CheckboxSelectMultiple,
            error_messages={"required": "Choose at least one: what is the certificate for?"},
            **kwargs,
        )


class CertificateImportForm(SafeForm):
    """Upload a certificate as a file or as pasted text, and confirm the warnings about it.

    If the form is valid, ``material`` is the certificate. ``warnings`` are findings to show; ``must_confirm`` means
    that the form is invalid only because they are not confirmed yet. An expired certificate needs a reason, too; one
    that is not valid yet goes into service by a rotation, unless ``at_once`` is ticked. ``notes`` are findings to show
    after the import.
    """

    certificate_file = FileContentField(required=False, label="Certificate file")
    certificate_text = PastedContentField(required=False, label="or paste it as text")
    despite_warnings = forms.BooleanField(required=False, label="I have read this: take it in all the same")
    expired_reason = forms.CharField(
        required=False,
        max_length=500,
        label="How do you know that it is in use?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One sentence. It is kept in the trail.",
    )
    at_once = forms.BooleanField(
        required=False,
        label="Put it into service at once, before it is valid",
        help_text="Otherwise it is stored, and the next page sets up the rotation that puts it into service once it is "
        "valid.",
    )

    material: pki.Material

    def __init__(self, holder: AbstractStation, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.holder, self.now = holder, now
        self.warnings: list[pki.CertificateFinding] = []
        self.notes: list[pki.CertificateFinding] = []
        self.must_confirm = self.is_expired = self.can_wait = False
        self.fields["roles"] = RolesField(holder.ROLES)
        self.helper = form_helper(*self.layout())

    def layout(self) -> tuple[Any, ...]:
        return ("certificate_file", "certificate_text", "roles")

    def read(self, data: bytes) -> pki.Material:
        """Return the certificate in the bytes, as a partner sends it: without a private key. Raises PkiError."""
        return pki.read_public(data, partner=True)

    def field_of(self, error: pki.PkiError, source: str) -> str:
        """Return the field at which an error is shown; ``source`` is the field that the bytes came from."""
        return source

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        source, data = self._submitted(cleaned)
        if data is None or self.errors:
            return cleaned
        try:
            self.material = self.read(data)
            findings = self._check(cleaned["roles"])
        except pki.PkiError as error:
            self.add_error(self.field_of(error, source), str(error))
            return cleaned
        for finding in findings:
            if finding.level == "error":
                self.add_error(source, f"{finding.reason} {finding.advice}")
        self.warnings = [finding for finding in findings if finding.level == "warning"]
        self.notes = [finding for finding in findings if finding.level == "note"]
        if self.warnings and not self.errors:
            self._require_confirmation(cleaned)
        return cleaned

    def _check(self, roles: Collection[str]) -> list[pki.CertificateFinding]:
        """Return the findings about the certificate; errors for some of the roles are added to that field."""
        in_use = certificates_by_role(self.holder)
        sha256 = self.material.description.sha256
        predecessor = find_predecessor(in_use, roles, sha256)
        findings = check_for_station(self.holder, self.material, roles=roles, now=self.now, predecessor=predecessor)
        codes = {finding.code for finding in findings}
        if "not-yet-valid" in codes:
            self.can_wait = any(not in_use[role] for role in roles)
        if "expired" in codes and "expired_reason" in self.fields:
            self.is_expired = True
            if obstacle := single_import.expired_use_obstacle(self.holder, sha256, roles):
                self.add_error("roles", obstacle)
            return pki.allow_expired(findings)
        return findings

    def _require_confirmation(self, cleaned: dict[str, Any]) -> None:
        if not cleaned["despite_warnings"]:
            self.add_error("despite_warnings", "Read the warnings and tick this, or take another certificate.")
        if self.is_expired and not cleaned["expired_reason"]:
            self.add_error("expired_reason", single_import.EXPIRED_REASON_MISSING)
        self.must_confirm = bool(self.errors)

    @transaction.atomic
    def save(self, *, by: Actor) -> CertificateImportResult:
        """Import the certificate of a valid form. Raises CertificateRefused, ExpiredCertificateRefused."""
        result = self._import(by=by)
        self.record_warnings(result.certificate, is_staged=self._is_staged, by=by)
        return result

    @property
    def _is_staged(self) -> bool:
        """Return whether the certificate is left to a rotation, since it is not valid yet."""
        return self.can_wait and not self.cleaned_data.get("at_once")

    def record_warnings(self, certificate: AbstractCertificate, *, is_staged: bool, by: Actor) -> None:
        """Record that the certificate was imported despite warnings, if so.

        That it is not valid yet overrides nothing if a rotation puts it into service later (``is_staged``).
        """
        warnings = [one for one in self.warnings if not (is_staged and one.code == "not-yet-valid")]
        if warnings:
            reason = self.cleaned_data.get("expired_reason", "") if self.is_expired else ""
            single_import.record_accepted_warnings(certificate, warnings, reason=reason, by=by, now=self.now)

    def _import(self, *, by: Actor) -> CertificateImportResult:
        holder, material, now = self.holder, self.material, self.now
        roles = self.cleaned_data["roles"]
        if self.is_expired:
            reason = self.cleaned_data["expired_reason"]
            return single_import.import_expired_certificate(
                holder, material, roles=roles, reason=reason, by=by, now=now
            )
        if self._is_staged:
            return single_import.stage_certificate(holder, material, roles=roles, by=by, now=now)
        return single_import.import_certificate(holder, material, roles=roles, by=by, now=now)

    def _submitted(self, cleaned: dict[str, Any]) -> tuple[str, bytes | None]:
        file, text = cleaned.get("certificate_file"), cleaned.get("certificate_text")
        if file is not None and text is not None:
            self.add_error("certificate_text", "There is a file and pasted text: give only one of them.")
        elif file is None and text is None and not self.errors:
            self.add_error("certificate_file", "Choose the certificate’s file, or paste its text below.")
        return ("certificate_file", file) if file is not None else ("certificate_text", text)


class IdentityUploadForm(CertificateImportForm):
    """Upload a certificate of an identity with its private key, in one file or two, or for a key that is here."""

    holder: Identity

    key_file = FileContentField(
        required=False,
        label="Private key file",
        help_text="Only when the key is in a file of its own. It must be the key of this certificate.",
    )
    password = password_field(
        "Password",
        new=False,
        required=False,
        max_length=1023,
        help_text="Of the PKCS#12 file or the encrypted key. Used once, stored nowhere.",
    )

    def __init__(self, holder: Identity, *args: Any, **kwargs: Any) -> None:
        super().__init__(holder, *args, **kwargs)
        self.fields["certificate_file"].help_text = (
            "PKCS#12 (.p12, .pfx), or PEM or DER with the key beside it. What a file is comes from its content, not "
            "from its name. At most 1 MiB."
        )
        self.fields["certificate_text"].help_text = "PEM: the block from BEGIN to END, with its key below it."

    def layout(self) -> tuple[Any, ...]:
        return (
            Row(
                Column("certificate_file", css_class="col-md-6"),
                Column("key_file", css_class="col-md-6"),
            ),
            "certificate_text",
            Row(Column("password", css_class="col-md-6")),
            "roles",
        )

    def read(self, data: bytes) -> pki.Material:
        password = self.cleaned_data["password"] or None
        key_data = self.cleaned_data["key_file"]
        kept = set(self.holder.private_keys.values_list("public_key_sha256", flat=True))
        try:
            return pki.read_with_key(data, password=password, key_data=key_data, key_password=password, kept_keys=kept)
        except pki.KeyMissing as error:
            # A renewed certificate often comes alone, for a key that was kept here when its predecessor came.
            if error.material.description.public_key_sha256 not in kept:
                raise
            note = f"it came without its key, and {self.holder} has this key here, which is used with it"
            return replace(error.material, notes=(*error.material.notes, note))

    def field_of(self, error: pki.PkiError, source: str) -> str:
        key_data = self.cleaned_data.get("key_file")
        if isinstance(error, pki.WrongPassword):
            return "password"
        if key_data is None:
            return source
        if isinstance(error, pki.KeyMismatch):
            return "key_file"
        try:
            pki.read_key(key_data, password=self.cleaned_data["password"] or None)
        except pki.PkiError:
            return "key_file"
        return source


class GenerateForm(SafeForm):
    """Choose the properties of a new key and its certificate. The subject defaults to the identity's."""

    SUBJECT = (
        "common_name",
        "organization",
        "organizational_unit",
        "locality",
        "state",
        "country",
        "email",
    )

    kind = forms.ChoiceField(
        label="Who signs it",
        widget=forms.RadioSelect,
        initial=CertificateRequest.Kind.SELF_SIGNED,
        choices=[
            (CertificateRequest.Kind.SELF_SIGNED, "Itself – usual for AS2; partners compare the fingerprint"),
            (
                CertificateRequest.Kind.CSR,
                "A CA – you get a signing request (CSR), and bring its answer back here",
            ),
        ],
    )
    bits = forms.TypedChoiceField(
        label="Key size",
        coerce=int,
        initial=3072,
        choices=[(2048, "RSA 2048"), (3072, "RSA 3072"), (4096, "RSA 4096")],
        help_text="2048 is taken by every product, 3072 by nearly all.",
    )
    hash_name = forms.ChoiceField(
        label="Signed with",
        initial="sha256",
        choices=[("sha256", "SHA-256"), ("sha384", "SHA-384"), ("sha512", "SHA-512")],
    )
    days = forms.IntegerField(
        label="Valid for (days)",
        min_value=1,
        max_value=1826,
        initial=730,
        help_text="Of a self-signed certificate: 730 days are two years. A CA decides by itself.",
        error_messages={"max_value": "At most 1826 days, five years: longer ones are refused by some partners."},
    )
    common_name = forms.CharField(
        max_length=64, label="Common name (CN)", help_text="Partners see it: the AS2 ID is a good choice."
    )
    organization = forms.CharField(required=False, max_length=64, label="Organization (O)")
    organizational_unit = forms.CharField(required=False, max_length=64, label="Unit (OU)")
    locality = forms.CharField(required=False, max_length=128, label="City (L)")
    state = forms.CharField(required=False, max_length=128, label="State or province (ST)")
    country = CountryField()
    email = forms.EmailField(required=False, label="E-mail")

    def __init__(self, identity: Identity, *args: Any, **kwargs: Any) -> None:
        initial = {name: getattr(identity, name) for name in self.SUBJECT if name != "common_name"}
        initial["common_name"] = identity.as2_id[:64]
        kwargs["initial"] = initial | kwargs.get("initial", {})
        super().__init__(*args, **kwargs)
        self.fields["roles"] = RolesField(identity.ROLES)
        self.helper = form_helper(
            "kind",
            Row(
                Column("bits", css_class="col-md-4"),
                Column("hash_name", css_class="col-md-4"),
                Column("days", css_class="col-md-4"),
            ),
            "roles",
            Fieldset(
                "What it says about us",
                Row(Column("common_name", css_class="col-md-6"), Column("email", css_class="col-md-6")),
                *SUBJECT_ROWS,
            ),
        )

    def requested_key(self, roles: Collection[str]) -> RequestedKey:
        """Return what a valid form asks for, for a certificate in these roles."""
        names = ("kind", "bits", "hash_name", "days")
        subject = {name: self.cleaned_data[name] for name in self.SUBJECT}
        return RequestedKey(**{name: self.cleaned_data[name] for name in names}, subject=subject, roles=list(roles))


class CAResponseForm(SafeForm):
    """Upload the certificate that a CA issued for a CSR."""

    answer_file = FileContentField(required=False, label="File")
    answer_text = PastedContentField(required=False, label="or paste it as text")

    helper = form_helper("answer_file", "answer_text")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        given = [name for name in ("answer_file", "answer_text") if cleaned.get(name) is not None]
        if not given and not self.errors:
            self.add_error("answer_file", "Choose the file that the CA sent, or paste its text below.")
        elif len(given) == 2:
            self.add_error("answer_text", "There is a file and pasted text: give only one of them.")
        self.source = given[0] if given else "answer_file"
        return cleaned

    @property
    def answer(self) -> bytes:
        data = self.cleaned_data[self.source]
        assert isinstance(data, bytes)
        return data


class PrivateKeyExportForm(SafeForm):
    """Export a private key: the reason, and how the file is protected."""

    reason = forms.CharField(
        max_length=500,
        label="Why does the key leave?",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One sentence. It is kept in the trail.",
    )
    form = forms.ChoiceField(
        label="As",
        choices=[(name, label) for name, (label, _suffix, _type) in PRIVATE_KEY_FORMATS.items()],
        widget=forms.RadioSelect,
        initial="pkcs12",
    )
    password = password_field(
        "Password of the file",
        new=True,
        min_length=MIN_FILE_PASSWORD,
        max_length=1023,
        help_text="Whoever opens the file needs it. Send it another way than the file.",
        error_messages={
            "min_length": f"It protects a private key on its way: take at least {MIN_FILE_PASSWORD} characters."
        },
    )
    password_again = password_field("The same again", new=True, max_length=1023)

    helper = form_helper(
        "reason",
        "form",
        Row(Column("password", css_class="col-md-6"), Column("password_again", css_class="col-md-6")),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("password") and cleaned.get("password_again") not in (None, cleaned["password"]):
            self.add_error("password_again", "The two passwords of the file differ.")
        return cleaned
