"""Forms for partners, contacts, partnerships, and uploads of partners' certificates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crispy_forms.layout import Column, Fieldset, Row
from django import forms
from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from as2certs.accounts.forms import TimeZoneField, form_helper, offer_current_zone, validate_work_hours
from as2certs.forms import SafeForm, SafeModelForm
from as2certs.time_format import format_moment
from identities.certificates.forms import CertificateImportForm
from identities.forms import (
    CAPABILITY_FIELDS,
    CAPABILITY_WIDGETS,
    REMINDER_FIELDSET,
    STATION_ROWS,
    STATION_WIDGETS,
    StationForm,
    capability_fieldset,
    fill_in_capabilities,
)
from identities.models import Identity
from identities.stations import AbstractCertificate, AbstractStation
from partners.models import PROBE_INTERVALS, Contact, Partner, Partnership
from partners.probes.requests import CertificateChoices


class PartnerForm(StationForm):
    REHEARSAL_FIELD = "rehearsal_partner"

    time_zone = TimeZoneField(help_text="Windows are shown to them in this zone first.")

    class Meta:
        model = Partner
        fields = [
            "name",
            "environment",
            "as2_id",
            "url",
            "time_zone",
            "works_from",
            "works_until",
            "lead_days",
            *CAPABILITY_FIELDS,
            "wants_pkcs7",
            "notify_expiry",
            "accept_by_rule",
            "watches_tls",
            "rehearsal_partner",
            "owners",
            "reminder_days",
            "notes",
        ]
        widgets = {
            **STATION_WIDGETS,
            **CAPABILITY_WIDGETS,
            "works_from": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
            "works_until": forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
        }
        labels = {
            "wants_pkcs7": "They prefer PKCS#7",
            "notify_expiry": "Remind them of their own certificates",
            "accept_by_rule": "Accept what a confirmed contact hands in",
            "watches_tls": "Watch the TLS certificate of their AS2 URL",
        }
        help_texts = {
            "name": "As you call them among yourselves, such as “Northwind”.",
            "environment": "A test partner is connected with test identities only.",
            "url": "Where we send our messages to.",
            "wants_pkcs7": "Our certificate goes to them as .p7b too, beside PEM and DER.",
            "notify_expiry": "Their contacts get a mail before their certificate ends, at the same days as our people, "
            "with a link by which they hand in the new one. The last one goes out when it ends.",
            "accept_by_rule": "A new certificate that comes by the link of a contact who was confirmed before the link "
            "was made counts as compared. Without this rule, one of us compares its fingerprint with them over another "
            "channel. Use it only where you trust their mailbox as much as a call.",
            "watches_tls": "Once a day, a worker connects to its server over TLS, and sends nothing. Owners here are "
            "notified when the certificate expires soon, changes, or is not trusted.",
            "rehearsal_partner": "The test partner on which a change of this one is tried first. Without one, it is "
            "the test partner with the same AS2 ID that a test identity of yours is connected with.",
            "owners": "They get the reminders about this partner. Without owners, the administrators do.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_current_zone(self)
        self.helper = form_helper(
            *STATION_ROWS,
            Row(
                Column("time_zone", css_class="col-md-6"),
                Column("works_from", css_class="col-6 col-md-3"),
                Column("works_until", css_class="col-6 col-md-3"),
            ),
            Row(Column("lead_days", css_class="col-md-6")),
            capability_fieldset("What their system can do", "wants_pkcs7"),
            Fieldset("Their own certificates", "notify_expiry", "accept_by_rule", "watches_tls"),
            Fieldset("Where a change is tried first", Row(Column("rehearsal_partner", css_class="col-md-8"))),
            REMINDER_FIELDSET,
            "notes",
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        validate_work_hours(self, cleaned)
        fill_in_capabilities(cleaned)
        environment = cleaned.get("environment")
        if environment and self.instance.pk:
            connected = self.instance.partnerships.active().exclude(identity__environment=environment)
            other = connected.select_related("identity").first()
            if other:
                self.add_error(
                    "environment",
                    f"It is connected with {other.identity}, which is in {other.identity.environment}: "
                    "end that partnership first.",
                )
        return cleaned


class ContactForm(SafeModelForm[Contact]):
    """A person at a partner. A new address loses the confirmation and the bounces of the old one."""

    #: The last three are cleared with a new address, which the audit trail shows.
    TRAIL_FIELDS = (
        "name",
        "job",
        "email",
        "phone",
        "notify_new_certificates",
        "notify_windows",
        "notify_expiry",
        "notes",
        "confirmed_at",
        "confirmed_how",
        "bounced_at",
    )

    class Meta:
        model = Contact
        fields = [
            "name",
            "job",
            "email",
            "phone",
            "notify_new_certificates",
            "notify_windows",
            "notify_expiry",
            "notes",
        ]
        widgets = {"notes": forms.Textarea(attrs={"rows": 2})}
        help_texts = {
            "job": "Such as “EDI operations” or “night shift”.",
            "email": "Without an address they are told nothing by mail.",
            "phone": "For the night of the change.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.old_address = self.instance.email
        if self.instance.confirmed_at is not None:
            self.fields["email"].help_text = "Another address has to be confirmed again."
        self.helper = form_helper(
            Row(Column("name", css_class="col-md-6"), Column("job", css_class="col-md-6")),
            Row(Column("email", css_class="col-md-6"), Column("phone", css_class="col-md-6")),
            Fieldset("What they are told by mail", "notify_new_certificates", "notify_windows", "notify_expiry"),
            "notes",
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("email") and not cleaned.get("phone") and not self.errors:
            self.add_error("email", "Give an e-mail address or a phone number: how else could they be reached?")
        return cleaned

    def save(self, commit: bool = True) -> Contact:
        if self.instance.email.lower() != self.old_address.lower():
            self.instance.forget_address()
        return super().save(commit)


class ContactConfirmForm(SafeForm):
    """Confirm a contact: how somebody verified that it is who it says."""

    how = forms.CharField(
        max_length=300,
        label="How you made sure",
        help_text="Such as “called her at the number in the contract”. A number or address that came by the very "
        "link or mail that is to be trusted shows nothing.",
        error_messages={"required": "Say how: others rely on it."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper = form_helper("how")


class PartnerUploadForm(CertificateImportForm):
    """Upload a partner's certificate, in any public format."""

    def __init__(self, holder: Partner, *args: Any, **kwargs: Any) -> None:
        super().__init__(holder, *args, **kwargs)
        file, text = self.fields["certificate_file"], self.fields["certificate_text"]
        file.help_text = (
            "What they sent: .pem, .crt, .cer, .der, .p7b or .p7c, at most 1 MiB. Never a file with a private key."
        )
        text.help_text = "PEM: the block from BEGIN to END."


class PartnershipForm(SafeForm):
    """Connect an identity with partners, or a partner with identities.

    The page offers at most ``MAX_OFFERED`` of them, those that a search finds; others are valid, too.
    """

    MAX_OFFERED = 50

    notes = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="What is particular about this connection, such as an agreed MDN time-out.",
    )

    def __init__(self, station: AbstractStation, *args: Any, words: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.station, self.words = station, words.strip()
        self.other_model = Partner if isinstance(station, Identity) else Identity
        self.noun = self.other_model._meta.model_name or ""
        self.fields["others"] = forms.ModelMultipleChoiceField(
            queryset=self.other_model._default_manager.active(),
            to_field_name="uid",
            error_messages={
                "required": f"Choose at least one {self.noun}.",
                "invalid_choice": f"One of those is no {self.noun} in use any more: choose again.",
            },
        )
        self.helper = form_helper("notes")

    @property
    def connected(self) -> QuerySet[Partnership]:
        return Partnership.objects.active().filter(**{self.station.side: self.station})

    @property
    def offered(self) -> list[AbstractStation]:
        """Return the stations to offer, one more than ``MAX_OFFERED`` if there are more."""
        others = (
            self.other_model._default_manager.active()
            .filter(environment=self.station.environment)
            .exclude(pk__in=self.connected.values(f"{self.noun}_id"))
        )
        if self.words:
            others = others.filter(Q(name__icontains=self.words) | Q(as2_id__icontains=self.words))
        return list(others[: self.MAX_OFFERED + 1])

    def clean_others(self) -> list[AbstractStation]:
        others: list[AbstractStation] = list(self.cleaned_data["others"])
        for other in others:
            if other.environment != self.station.environment:
                raise forms.ValidationError(
                    f"{other} is in {other.environment} and {self.station} in {self.station.environment}: "
                    "test and production are not connected with each other."
                )
        names = self.connected.filter(**{f"{self.noun}__in": others}).values_list(f"{self.noun}__name", flat=True)
        if taken := names.first():
            raise forms.ValidationError(f"{taken} is connected with {self.station} already.")
        return others


class ProbeIntervalForm(SafeForm):
    """How often a test message is sent without anybody asking for it, in days; 0 for never."""

    days = forms.TypedChoiceField(
        label="Send one regularly",
        choices=list(PROBE_INTERVALS.items()),
        coerce=int,
        widget=forms.Select(attrs={"class": "form-select w-auto"}),
    )


class ProbeForm(SafeForm):
    """The certificates of a test message and how its MDN comes; once valid, both choices are certificates."""

    signing = forms.ChoiceField(
        label="Sign with our certificate",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the certificate that signs."},
    )
    encryption = forms.ChoiceField(
        label="Encrypt to their certificate",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the certificate to encrypt to."},
    )
    mdn = forms.ChoiceField(
        label="MDN",
        choices=[("sync", "in the answer (synchronous)"), ("async", "later, to our address (asynchronous)")],
        widget=forms.RadioSelect,
        initial="sync",
        error_messages={"required": "Choose how the MDN comes."},
    )

    def __init__(self, choices: CertificateChoices, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offer("signing", choices.signing, choices.signing_in_use)
        self._offer("encryption", choices.encryption, choices.encryption_in_use)
        base = settings.AS2CERTS_BASE_URL
        self.fields["mdn"].help_text = f"For an asynchronous one, their server has to reach {base}/as2/."
        self.helper = form_helper("signing", "encryption", "mdn")

    def _offer(
        self, name: str, certificates: Sequence[AbstractCertificate], in_use: AbstractCertificate | None
    ) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        by_uid = {str(one.uid): one for one in certificates}
        field.choices = [(uid, _certificate_label(one, in_use)) for uid, one in by_uid.items()]
        field.initial = next(iter(by_uid), None)
        if self.initial.get(name) not in by_uid:
            self.initial.pop(name, None)
        setattr(self, f"clean_{name}", lambda: by_uid[self.cleaned_data[name]])


def _certificate_label(certificate: AbstractCertificate, in_use: AbstractCertificate | None) -> str:
    use = "in use" if certificate == in_use else "not in use"
    ends = format_moment(certificate.not_after, timezone.get_current_timezone_name(), "day")
    return f"{certificate}, until {ends}, {use}"
