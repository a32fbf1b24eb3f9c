"""Forms for identities and AS2 systems, and for the reason of an action."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from crispy_forms.bootstrap import InlineRadios
from crispy_forms.layout import HTML, Column, Div, Fieldset, Row
from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q

from as2certs.accounts.forms import ReminderDaysField, form_helper
from as2certs.forms import SafeForm, SafeModelForm
from as2certs.pki import VaultError
from identities.capabilities import QUESTIONS, Support, answers_of
from identities.connectors import CONNECTOR_CHOICES, ConnectorError, may_hold_two, may_sign_per_partner
from identities.connectors.aws_transfer import check_region, parse_profiles
from identities.connectors.azure_api import check_account, check_vault
from identities.connectors.files_com import check_api_key, check_site, parse_records
from identities.connectors.named_files import check_names
from identities.connectors.openas2 import KEYSTORE_SECONDS, MAX_INTERVAL_SECONDS, PARTNERSHIPS_SECONDS, allowed_file
from identities.connectors.webhook import check_ca, check_key_id, check_secret, check_url
from identities.models import AS2System, Identity
from identities.stations import AbstractStation, Environment
from identities.system_credentials import read_credentials, seal_credentials

_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


#: Widgets and layout that the forms of identities and partners share.
STATION_WIDGETS: dict[str, Any] = {
    "owners": forms.CheckboxSelectMultiple,
    "notes": forms.Textarea(attrs={"rows": 3}),
    "as2_id": forms.TextInput(attrs={"class": "font-monospace", "autocomplete": "off", "spellcheck": "false"}),
}
STATION_ROWS = (
    Row(Column("name", css_class="col-md-8"), Column("environment", css_class="col-md-4")),
    Row(Column("as2_id", css_class="col-md-5"), Column("url", css_class="col-md-7")),
)
REMINDER_FIELDSET = Fieldset(
    "Who is reminded",
    Row(Column("owners", css_class="col-md-6"), Column("reminder_days", css_class="col-md-6")),
)

#: The fields of a certificate's subject, apart from its common name.
SUBJECT_ROWS = (
    Row(
        Column("organization", css_class="col-md-6"),
        Column("organizational_unit", css_class="col-md-6"),
    ),
    Row(
        Column("locality", css_class="col-md-4"),
        Column("state", css_class="col-md-4"),
        Column("country", css_class="col-md-4"),
    ),
)


#: Fields of ``AbstractCapabilities``.
CAPABILITY_FIELDS = ("software", *QUESTIONS)


CAPABILITY_WIDGETS: dict[str, Any] = dict.fromkeys(QUESTIONS, forms.RadioSelect)


def capability_fieldset(legend: str, *fields: str) -> Fieldset:
    """Return the part of a form about an AS2 system: which product it is, the five questions, and further fields."""
    return Fieldset(
        legend,
        Row(Column("software", css_class="col-md-6")),
        *(InlineRadios(name) for name in QUESTIONS),
        *fields,
    )


def fill_in_capabilities(cleaned: dict[str, Any]) -> None:
    """Replace the answers that are not known by what is known of the product that was chosen."""
    for name, answer in answers_of(cleaned.get("software", "")).items():
        if cleaned.get(name) == Support.UNKNOWN:
            cleaned[name] = answer


class CountryField(forms.CharField):
    """A country as in a certificate's subject: two capital letters, or empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=2, **kwargs)

    def to_python(self, value: Any) -> str:
        country = super().to_python(value) or ""
        if country and not re.fullmatch("[A-Za-z]{2}", country):
            raise forms.ValidationError("A country is written with two letters, such as DE or US.")
        return country.upper()


class StationForm(SafeModelForm[Any]):
    """Base of the forms of identities and partners."""

    #: The field of the test station on which changes of this station are rehearsed.
    REHEARSAL_FIELD: ClassVar[str]

    reminder_days = ReminderDaysField(
        required=False,
        label="Reminders",
        help_text="Days before the end, with commas; 0 is the day itself, -1 the day after. "
        "Empty: as set for the whole installation.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        owners = self.fields["owners"]
        assert isinstance(owners, forms.ModelMultipleChoiceField)
        chosen = self.instance.owners.values("pk") if self.instance.pk else []
        everybody = get_user_model()._default_manager.filter(Q(is_active=True) | Q(pk__in=chosen))
        owners.queryset = everybody.order_by("first_name", "last_name", "username")
        self._offer_counterparts()

    def _offer_counterparts(self) -> None:
        """Offer the test stations in use; an earlier choice stays valid, so that other fields can be changed."""
        field = self.fields[self.REHEARSAL_FIELD]
        assert isinstance(field, forms.ModelChoiceField)
        model = self._meta.model
        chosen = getattr(self.instance, f"{self.REHEARSAL_FIELD}_id")
        offered = model._default_manager.filter(Q(archived_at=None, environment=Environment.TEST) | Q(pk=chosen))
        field.queryset = offered.exclude(pk=self.instance.pk)
        field.label, field.empty_label = "Test counterpart", "None"
        field.error_messages["invalid_choice"] = (
            f"A change is rehearsed on a test {model._meta.verbose_name} that is in use: choose one of these, or none."
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        as2_id, environment = cleaned.get("as2_id"), cleaned.get("environment")
        if as2_id and environment and (other := self._same_as2_id(as2_id, environment)):
            self.add_error(
                "as2_id",
                f"{other} has the AS2 ID {as2_id} in {environment} already. Open that one, or archive it.",
            )
        if environment:
            self._check_counterpart(environment, cleaned.get(self.REHEARSAL_FIELD))
        if self.instance.pk and environment != self.initial["environment"] and self._has_open_rotation():
            self.add_error(
                "environment",
                "A rotation of it has not ended, and its rules are those of its environment. End or cancel it first.",
            )
        return cleaned

    def _has_open_rotation(self) -> bool:
        return bool(self.instance.rotations.filter(ended_at=None).exists())

    def _check_counterpart(self, environment: str, counterpart: AbstractStation | None) -> None:
        name = self._meta.model._meta.verbose_name
        if counterpart and environment == Environment.TEST:
            self.add_error(
                self.REHEARSAL_FIELD,
                f"This is a test {name} itself: only production ones rehearse. Choose none.",
            )
        if environment != Environment.TEST and self.instance.pk:
            other = self.instance.rehearses.first()
            if other:
                self.add_error(
                    "environment",
                    f"{other} is rehearsed on this one, so it stays a test {name}: "
                    "give that one another test counterpart first.",
                )

    def _same_as2_id(self, as2_id: str, environment: str) -> AbstractStation | None:
        if self.instance.archived_at is not None:
            return None
        others = self._meta.model._default_manager.active().exclude(pk=self.instance.pk)
        return others.filter(as2_id=as2_id, environment=environment).first()


class IdentityForm(StationForm):
    REHEARSAL_FIELD = "rehearsal_identity"

    country = CountryField(help_text="Two letters, such as DE or US.")

    class Meta:
        model = Identity
        fields = [
            "name",
            "environment",
            "as2_id",
            "url",
            "as2_system",
            "rehearsal_identity",
            "owners",
            "reminder_days",
            "organization",
            "organizational_unit",
            "locality",
            "state",
            "country",
            "email",
            "notes",
        ]
        widgets = STATION_WIDGETS
        help_texts = {
            "name": "As you call it among yourselves, such as “ACME production”.",
            "environment": "A test identity trades with test partners only.",
            "url": "Where partners send their messages to.",
            "owners": "They get the reminders. Without owners, the administrators do.",
            "rehearsal_identity": "The test identity on which a change of this one is tried first.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        system = self.fields["as2_system"]
        assert isinstance(system, forms.ModelChoiceField)
        system.queryset = AS2System.objects.filter(Q(archived_at=None) | Q(pk=self.instance.as2_system_id))
        system.empty_label = "None: a person applies changes"
        self.helper = form_helper(
            *STATION_ROWS,
            Fieldset(
                "How a change gets there",
                Row(
                    Column("as2_system", css_class="col-md-6"),
                    Column("rehearsal_identity", css_class="col-md-6"),
                ),
            ),
            REMINDER_FIELDSET,
            Fieldset(
                "What new certificates say",
                HTML('<p class="text-body-secondary">Defaults for the subject of certificates made here.</p>'),
                *SUBJECT_ROWS,
                Row(Column("email", css_class="col-md-6")),
            ),
            "notes",
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        environment, system = cleaned.get("environment"), cleaned.get("as2_system")
        if environment and system and system.environment != environment:
            self.add_error(
                "as2_system",
                f"{system} is a {system.environment} system, this is a {environment} identity: "
                f"choose a {environment} system.",
            )
        if environment and self.instance.pk:
            self._check_partners(environment)
        return cleaned

    def _check_partners(self, environment: str) -> None:
        connected = self.instance.partnerships.active().exclude(partner__environment=environment)
        other = connected.select_related("partner").first()
        if other:
            self.add_error(
                "environment",
                f"It is connected with {other.partner}, which is in {other.partner.environment}: "
                "end that partnership first.",
            )


#: What each connector keeps in the configuration of its system, by its kind.
CONNECTOR_OPTIONS = {
    "directory": ("folder", "hook", "read_back", "file_names"),
    "openas2": ("keystore", "partnerships", "keystore_seconds", "partnerships_seconds", "rest_url", "rest_user"),
    "webhook": ("webhook_url", "webhook_key_id", "webhook_ca"),
    "aws_transfer": ("aws_region", "aws_profiles"),
    "azure_logic": ("azure_account", "azure_vault", "azure_agreements"),
    "files_com": ("files_com_site", "files_com_records"),
}
#: What it keeps sealed: see ``identities.system_credentials``.
CONNECTOR_PASSWORDS = {
    "openas2": ("keystore_password", "rest_password"),
    "webhook": ("webhook_secret",),
    "files_com": ("files_com_api_key",),
}
#: The questions about certificates that are accepted at the same time.
TWO_AT_ONCE = ("decrypts_with_two", "verifies_messages_with_two", "verifies_mdns_with_two")


class StoredPasswordField(forms.CharField):
    """A password that is never shown again; left empty, the stored one is kept."""

    def __init__(self, label: str) -> None:
        widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
        super().__init__(required=False, label=label, max_length=200, strip=False, widget=widget)


def _interval_field(label: str, initial: int) -> forms.IntegerField:
    return forms.IntegerField(required=False, label=label, min_value=0, max_value=MAX_INTERVAL_SECONDS, initial=initial)


class SystemForm(SafeModelForm[AS2System]):
    """An AS2 system. What its connector needs is stored in its configuration, and the passwords sealed."""

    TRAIL_FIELDS = (
        "name",
        "environment",
        "connector",
        "config",
        "sealed_credentials",
        *CAPABILITY_FIELDS,
        "switches_by_date",
        "drain_hours",
        "notes",
    )

    connector = forms.ChoiceField(
        label="How changes get there", choices=CONNECTOR_CHOICES, widget=forms.RadioSelect, initial="manual"
    )
    folder = forms.CharField(
        required=False,
        max_length=200,
        help_text="Below the folder that the server’s settings name; it is made when it is missing. "
        "Such as openas2-prod.",
    )
    hook = forms.ChoiceField(
        required=False,
        label="Hook",
        help_text="Run after the files are in place, so that the AS2 system takes them up. "
        "Hooks are named in the server’s settings, never here.",
    )
    read_back = forms.ChoiceField(
        required=False,
        label="Read-back command",
        help_text="Run to ask the AS2 system which certificates it really uses. A step is then done once it uses the "
        "new one. Without it, a step is done when the files are stored.",
    )

    file_names = forms.CharField(
        required=False,
        label="Files for a product that imports from a fixed folder",
        widget=forms.Textarea(attrs={"rows": 2}),
        max_length=1000,
        help_text="One name a line, such as {as2_id}-{role}.pem; ending in .pem, .cer or .p12. They are written to the "
        "folder “files” of each station, and replaced with each change.",
    )

    keystore = forms.CharField(
        required=False,
        max_length=400,
        help_text="Full path of the PKCS#12 file, on this server or in a mounted folder.",
    )
    keystore_password = StoredPasswordField("Password of the keystore")
    partnerships = forms.CharField(required=False, max_length=400, help_text="Full path of partnerships.xml.")
    keystore_seconds = _interval_field("Seconds until it reads the keystore again", KEYSTORE_SECONDS)
    partnerships_seconds = _interval_field("Seconds until it reads the partnerships again", PARTNERSHIPS_SECONDS)
    rest_url = forms.ChoiceField(
        required=False,
        label="REST interface",
        help_text="Asked which certificates OpenAS2 has read. Without it, a step is done when the intervals are over. "
        "Addresses are named in the server’s settings, never here.",
    )
    rest_user = forms.CharField(
        required=False, max_length=200, label="REST user", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    rest_password = StoredPasswordField("REST password")

    webhook_url = forms.CharField(
        required=False,
        label="Address of the webhook",
        max_length=1000,
        help_text="Such as https://as2.example.com/certificates. It gets certificates, never private keys: the AS2 "
        "system takes our keys from where they were made, or from a file that an administrator takes out here.",
    )
    webhook_key_id = forms.CharField(
        required=False,
        label="Key ID",
        max_length=60,
        help_text="It is sent with each request, so that the receiver knows two secrets while one is replaced.",
    )
    webhook_secret = StoredPasswordField("Secret")
    webhook_ca = forms.CharField(
        required=False,
        label="Private CA",
        widget=forms.Textarea(attrs={"rows": 3, "class": "font-monospace", "spellcheck": "false"}),
        max_length=100_000,
        help_text="As PEM, if the receiver’s TLS certificate is from a CA of your company.",
    )
    aws_region = forms.CharField(
        required=False,
        label="AWS region",
        max_length=30,
        help_text="Such as eu-central-1. Credentials are those that the machine has: none are stored here.",
    )
    aws_profiles = forms.CharField(
        required=False,
        label="Profiles",
        widget=forms.Textarea(attrs={"rows": 2, "class": "font-monospace", "spellcheck": "false"}),
        max_length=100_000,
        help_text="Only where several profiles have the same AS2 ID: one a line, such as “own ACME-PROD "
        "p-0123456789abcdef0” or “partner NORTHWIND p-0123456789abcdef1”.",
    )

    azure_account = forms.CharField(
        required=False,
        label="Integration account",
        max_length=400,
        help_text="Its resource ID, as the portal shows it under Properties: "
        "/subscriptions/…/providers/Microsoft.Logic/integrationAccounts/acme. Credentials are those that the machine "
        "has: none are stored here.",
    )
    azure_vault = forms.CharField(
        required=False,
        label="Key vault",
        max_length=400,
        help_text="Its resource ID, as the portal shows it under Properties. It takes the private keys of our "
        "certificates; without it, only partners’ certificates can be changed.",
    )
    azure_agreements = forms.CharField(
        required=False,
        label="Agreements",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        max_length=100_000,
        help_text="Only where not all AS2 agreements of the account are to be changed, such as where test and "
        "production share it: their names, one a line.",
    )
    files_com_site = forms.CharField(
        required=False,
        label="Site",
        max_length=63,
        help_text="The first part of its address, such as acme of acme.files.com.",
    )
    files_com_api_key = StoredPasswordField("API key")
    files_com_records = forms.CharField(
        required=False,
        label="Stations and partners",
        widget=forms.Textarea(attrs={"rows": 2, "class": "font-monospace", "spellcheck": "false"}),
        max_length=100_000,
        help_text="Only where several have the same AS2 ID: one a line with its ID in Files.com, such as “own "
        "ACME-PROD 12” or “partner NORTHWIND 34”. A partner of several stations has a line for each.",
    )

    class Meta:
        model = AS2System
        fields = [
            "name",
            "environment",
            *CAPABILITY_FIELDS,
            "switches_by_date",
            "drain_hours",
            "connector",
            "notes",
        ]
        widgets = {**CAPABILITY_WIDGETS, "notes": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "name": "Such as “OpenAS2 production”.",
            "signs_messages_per_partner": "With this and the next, each partner changes over at its own moment, and "
            "nobody waits for the slowest. The connector has to be able to make such a change.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.instance.config or {}
        for name in ("hook", "read_back"):
            command = self.fields[name]
            assert isinstance(command, forms.ChoiceField)
            command.choices = [("", "None"), *((key, key) for key in sorted(settings.AS2CERTS_HOOKS))]
        rest = self.fields["rest_url"]
        assert isinstance(rest, forms.ChoiceField)
        rest.choices = [("", "None"), *((url, url) for url in settings.AS2CERTS_OPENAS2_REST)]
        for name in CONNECTOR_OPTIONS.get(self.instance.connector, ()):
            if name in config:
                self.fields[name].initial = config[name]
        stored = self._stored_passwords()
        for names in CONNECTOR_PASSWORDS.values():
            for name in names:
                if name in stored:
                    self.fields[name].help_text = "One is stored. Leave it empty to keep it."
        self.fields["file_names"].initial = "\n".join(config.get("file_names") or ())
        self.helper = form_helper(
            Row(Column("name", css_class="col-md-8"), Column("environment", css_class="col-md-4")),
            capability_fieldset("What it can do", "switches_by_date", "drain_hours"),
            Fieldset(
                "Connector",
                "connector",
                Div(
                    "folder",
                    Row(Column("hook", css_class="col-md-6"), Column("read_back", css_class="col-md-6")),
                    "file_names",
                    css_class="connector-directory",
                ),
                Div(
                    "keystore",
                    "keystore_password",
                    "partnerships",
                    Row(
                        Column("keystore_seconds", css_class="col-md-6"),
                        Column("partnerships_seconds", css_class="col-md-6"),
                    ),
                    "rest_url",
                    Row(Column("rest_user", css_class="col-md-6"), Column("rest_password", css_class="col-md-6")),
                    css_class="connector-openas2",
                ),
                Div(
                    "webhook_url",
                    Row(Column("webhook_key_id", css_class="col-md-6"), Column("webhook_secret", css_class="col-md-6")),
                    "webhook_ca",
                    css_class="connector-webhook",
                ),
                Div("aws_region", "aws_profiles", css_class="connector-aws_transfer"),
                Div("azure_account", "azure_vault", "azure_agreements", css_class="connector-azure_logic"),
                Div(
                    Row(
                        Column("files_com_site", css_class="col-md-6"),
                        Column("files_com_api_key", css_class="col-md-6"),
                    ),
                    "files_com_records",
                    css_class="connector-files_com",
                ),
            ),
            "notes",
        )

    def clean_folder(self) -> str:
        folder = self.cleaned_data["folder"].strip().rstrip("/")
        if folder and not _FOLDER.fullmatch(folder):
            raise forms.ValidationError(
                "A folder below the server’s root: letters, digits, dots, dashes and “/”, not beginning with a dot "
                "or “/”. Such as openas2-prod."
            )
        return folder

    def clean_file_names(self) -> list[str]:
        names = self.cleaned_data["file_names"].split()
        try:
            check_names(names)
        except ConnectorError as error:
            raise forms.ValidationError(str(error)) from error
        return names

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("connector") == "directory" and "folder" in cleaned:
            self._check_folder(cleaned["folder"])
        if cleaned.get("connector") == "openas2":
            self._check_openas2(cleaned)
        if cleaned.get("connector") == "webhook":
            self._check_webhook(cleaned)
        if cleaned.get("connector") == "aws_transfer":
            self._check_field("aws_region", check_region, cleaned)
            self._check_field("aws_profiles", parse_profiles, cleaned)
        if cleaned.get("connector") == "azure_logic":
            self._check_field("azure_account", check_account, cleaned)
            self._check_field("azure_vault", check_vault, cleaned)
        if cleaned.get("connector") == "files_com":
            self._check_field("files_com_site", check_site, cleaned)
            self._check_field("files_com_records", parse_records, cleaned)
            self._check_field("files_com_api_key", check_api_key, self._passwords(cleaned))
        kind = cleaned.get("connector")
        if kind == "directory" and cleaned.get("software") == "openas2":
            # The hook for OpenAS2 that comes with this application signs with one certificate for all partners.
            for name in ("signs_messages_per_partner", "signs_mdns_per_partner"):
                if cleaned.get(name) == Support.UNKNOWN:
                    cleaned[name] = Support.NO
        fill_in_capabilities(cleaned)
        if kind and cleaned.get("signs_messages_per_partner") == Support.YES and not may_sign_per_partner(kind):
            self.add_error(
                "signs_messages_per_partner",
                f"“{dict(CONNECTOR_CHOICES)[kind]}” writes one certificate for all partners: choose “no”, or let a "
                "person apply the changes.",
            )
        if kind and not may_hold_two(kind):
            for name in (name for name in TWO_AT_ONCE if cleaned.get(name) == Support.YES):
                self.add_error(name, f"“{dict(CONNECTOR_CHOICES)[kind]}” holds one certificate at a time: choose “no”.")
        environment = cleaned.get("environment")
        if environment and self.instance.pk:
            other = self.instance.identities.active().exclude(environment=environment).first()
            if other:
                self.add_error(
                    "environment",
                    f"It carries the traffic of {other}, which is in {other.environment}: "
                    "give that identity another AS2 system first.",
                )
        return cleaned

    def _check_folder(self, folder: str) -> None:
        if not folder:
            self.add_error("folder", "Say which folder the certificates are to be written to.")
            return
        others = AS2System.objects.active().filter(connector="directory").exclude(pk=self.instance.pk)
        same = others.filter(config__folder=folder).first()
        if same:
            self.add_error("folder", f"{same} writes to this folder: two systems in one would undo each other.")

    def _check_openas2(self, cleaned: dict[str, Any]) -> None:
        """Check that both files may be changed, that no other system changes them, and that a password is known."""
        for name, default in (("keystore_seconds", KEYSTORE_SECONDS), ("partnerships_seconds", PARTNERSHIPS_SECONDS)):
            if name in cleaned and cleaned[name] is None:
                cleaned[name] = default
        others = AS2System.objects.active().filter(connector="openas2").exclude(pk=self.instance.pk)
        for name in ("keystore", "partnerships"):
            if name not in cleaned:
                continue
            try:
                allowed_file(cleaned[name], tuple(settings.AS2CERTS_OPENAS2_ROOTS))
            except ConnectorError as error:
                self.add_error(name, str(error))
            else:
                if same := others.filter(**{f"config__{name}": cleaned[name]}).first():
                    self.add_error(name, f"{same} changes this file: connect its identities with that system.")
        if "keystore_password" in cleaned and not self._passwords(cleaned).get("keystore_password"):
            self.add_error("keystore_password", "Enter the password of the keystore.")

    def _check_webhook(self, cleaned: dict[str, Any]) -> None:
        networks = settings.AS2CERTS_CONNECTOR_NETWORKS
        self._check_field("webhook_url", lambda url: check_url(url, networks), cleaned)
        self._check_field("webhook_key_id", check_key_id, cleaned)
        self._check_field("webhook_ca", check_ca, cleaned)
        self._check_field("webhook_secret", check_secret, self._passwords(cleaned))

    def _check_field(self, name: str, check: Callable[[str], object], values: Mapping[str, str]) -> None:
        """Show what a connector refuses at the field that it comes from."""
        try:
            check(values.get(name, ""))
        except ConnectorError as error:
            self.add_error(name, str(error))

    def _stored_passwords(self) -> dict[str, str]:
        """Return the passwords that are stored; none if they can't be unsealed, so that they are entered again."""
        try:
            return read_credentials(self.instance)
        except VaultError:
            return {}

    def _passwords(self, cleaned: dict[str, Any]) -> dict[str, str]:
        """Return the passwords that are entered, or stored and kept, for the chosen connector."""
        stored, names = self._stored_passwords(), CONNECTOR_PASSWORDS.get(cleaned.get("connector", ""), ())
        return {name: cleaned.get(name) or stored.get(name, "") for name in names}

    def save(self, commit: bool = True) -> AS2System:
        names = CONNECTOR_OPTIONS.get(self.cleaned_data["connector"], ())
        config = {name: self.cleaned_data.get(name, "") for name in names}
        if (passwords := self._passwords(self.cleaned_data)) != self._stored_passwords():
            self.instance.sealed_credentials = seal_credentials(passwords)
        if self.instance.pk and config != self.instance.config:
            self.instance.baselines.all().delete()  # they were written elsewhere: see ``partners.baselines``
        self.instance.config = config
        return super().save(commit)


class AuditReasonForm(SafeForm):
    """The reason of an action, for the audit trail."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One sentence. It is kept in the trail.",
        error_messages={"required": "Say why."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.helper = form_helper("reason")
