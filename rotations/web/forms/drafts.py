"""The form to set up a rotation and to change its draft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import NameOID
from django import forms
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.formats import date_format

from as2certs import pki
from as2certs.accounts.models import Installation, User
from identities.certificates.forms import ROLE_LABELS, CertificateImportForm, GenerateForm, IdentityUploadForm
from identities.models import AS2System, CertificateRequest, Identity
from identities.stations import AbstractCertificate
from partners.forms import PartnerUploadForm
from partners.models import Partner
from rotations.errors import ActionRefused
from rotations.execution import stored_plan
from rotations.lifecycle import drafts
from rotations.models import AtEnd, Participant, Rotation
from rotations.planning.change import Role, phased_obstacle
from rotations.planning.windows import EXTENSION_MARGIN, Window, WindowFinding, check_window
from rotations.web.forms.windows import WindowForm, initial_window

#: States of requests that may still yield a certificate.
PENDING_REQUEST_STATES = (
    CertificateRequest.State.QUEUED,
    CertificateRequest.State.WORKING,
    CertificateRequest.State.AWAITING_CA,
)
#: How many certificates are offered as a successor, those with the latest expiry first.
MAX_CERTIFICATES = 100

_SUBJECT_OIDS = {
    "common_name": NameOID.COMMON_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "country": NameOID.COUNTRY_NAME,
    "email": NameOID.EMAIL_ADDRESS,
}


def subject_fields(certificate: x509.Certificate) -> dict[str, str]:
    """Return the subject fields of a certificate that are initial values for its successor."""
    found = {name: certificate.subject.get_attributes_for_oid(oid) for name, oid in _SUBJECT_OIDS.items()}
    return {name: str(attributes[0].value) for name, attributes in found.items() if attributes}


class SuccessorGenerateForm(GenerateForm):
    """A key and certificate to generate; the roles are those of the rotation."""

    # Hidden until it is chosen: browsers can't report a required field that is not visible.
    use_required_attribute = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["roles"]


class _SuccessorImportForm(CertificateImportForm):
    """A certificate to import; its roles are the rotation's, and its warnings are shown before the approval."""

    use_required_attribute = False
    chosen_roles: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("roles", "despite_warnings", "expired_reason", "at_once"):
            del self.fields[name]
        for field in self.fields.values():
            # Keeps the chosen file in the browser while another field is corrected.
            field.widget.attrs["hx-preserve"] = "true"

    def clean(self) -> dict[str, Any]:
        self.cleaned_data |= {"roles": list(self.chosen_roles), "despite_warnings": True}
        return super().clean()


class OwnSuccessorForm(_SuccessorImportForm, IdentityUploadForm):
    """Our own certificate with its private key."""


class PartnerSuccessorForm(_SuccessorImportForm, PartnerUploadForm):
    """A partner's certificate without a private key."""


def _initial_draft_window(rotation: Rotation, now: datetime) -> dict[str, Any]:
    """Return the stored window as it was entered: without a start where the change begins with the approval."""
    start, end = rotation.window_start, rotation.window_end
    found = initial_window(start, end, rotation.window_zone)
    if rotation.is_phased and start is not None and end is not None and start <= now:
        last = Window(start, end, rotation.window_zone or "UTC").local_end.date()
        return found | {"window_date": None, "window_from": None, "window_last_date": last}
    return found


class DraftForm(WindowForm):
    """The old certificate, its successor, the window and the grace period. In a draft, the window may be empty.

    ``generate`` and ``upload`` are nested forms: the one that ``successor`` names is validated with this one.
    """

    WINDOW_REQUIRED = False

    old = forms.ChoiceField(label="The certificate that leaves", required=False)
    roles = forms.MultipleChoiceField(
        label="In which roles",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one role: what is the new certificate for?"},
    )
    successor = forms.ChoiceField(label="Where it comes from", widget=forms.RadioSelect)
    certificate = forms.ChoiceField(label="Which one", required=False)
    request = forms.ChoiceField(label="Which request", required=False)
    grace_days = forms.IntegerField(
        label="Keep the old certificate for (days)",
        min_value=0,
        max_value=365,
        help_text="After the window: longer than the time-out of asynchronous MDNs plus all retries.",
    )
    at_end = forms.ChoiceField(
        required=False,
        label="Switch",
        choices=[("", "at the start of the window"), *AtEnd.choices],
        help_text="Each partner when it is ready: enter the last moment under “Until” and “Until the day”. Leave “Day” "
        "and “From” empty to begin with the approval. Not known: both sides accept both certificates throughout. The "
        "change is made at the first message that shows that the other side has changed, or on your word. "
        f"An extension ends at least {EXTENSION_MARGIN // timedelta(hours=1)} hours before the old "
        "certificate expires and never lies in a freeze; where it can’t, a person decides.",
    )
    notes = forms.CharField(
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="For your colleagues; partners don't see it.",
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        holder: Identity | Partner,
        *args: Any,
        now: datetime,
        user: User,
        rotation: Rotation | None = None,
        **kwargs: Any,
    ) -> None:
        self.holder, self.user, self.rotation = holder, user, rotation
        self.serving = _certificates_in_use(holder)
        zones = _suggested_zones(holder, user, rotation)
        kwargs["initial"] = self._initial(zones, now) | kwargs.get("initial", {})
        super().__init__(*args, now=now, zones=zones, **kwargs)
        self.certificates = {str(c.uid): c for c in self._certificates()}
        self.requests = {str(r.uid): r for r in self._pending()}
        self._offer_certificates()
        self._offer_successors()
        self._add_forms()

    # Choices

    def _certificates(self) -> Iterator[AbstractCertificate]:
        stored: QuerySet[Any] = self.holder.certificates.light()
        named = [self.initial.get("old"), self.initial.get("certificate"), self.data.get("certificate")]
        preferred = Q(pk__in=list(self.serving)) | Q(uid__in=[uid for name in named if (uid := _parse_uuid(name))])
        yield from stored.filter(preferred)
        rest = stored.exclude(preferred).exclude(not_after__lt=self.now)
        yield from rest.order_by("-not_after")[:MAX_CERTIFICATES]

    def _pending(self) -> Iterator[CertificateRequest]:
        if isinstance(self.holder, Identity):
            current = Q(pk=self.rotation.request_id if self.rotation else None)
            yield from self.holder.requests.filter(Q(state__in=PENDING_REQUEST_STATES) | current)

    def _initial(self, zones: Mapping[str, Sequence[str]], now: datetime) -> dict[str, Any]:
        zone = zones["Here"][0]
        if self.rotation is None:
            preset = drafts.initial_values(self.holder)
            old = preset["old"]
            return {
                "old": str(old.uid) if isinstance(old, AbstractCertificate) else "",
                "roles": preset["roles"] or list(self.holder.ROLES),
                "successor": "generate" if isinstance(self.holder, Identity) else "upload",
                "grace_days": Installation.current().grace_days,
                "window_zone": zone,
            }
        rotation = self.rotation
        waits = rotation.request is not None and rotation.new is None
        return {
            "old": str(rotation.old.uid) if rotation.old else "",
            "roles": rotation.roles,
            "successor": "request" if waits else "inventory" if rotation.new else "awaited",
            "certificate": str(rotation.new.uid) if rotation.new else "",
            "request": str(rotation.request.uid) if rotation.request else "",
            "grace_days": rotation.grace_days,
            "notes": rotation.notes,
            "freeze_reason": rotation.freeze_reason,
            "at_end": rotation.at_end,
            "window_zone": rotation.window_zone or zone,
        } | _initial_draft_window(rotation, now)

    def _offer_certificates(self) -> None:
        in_use = [c for c in self.certificates.values() if c.pk in self.serving]
        leaving = [
            c for c in self.certificates.values() if self.rotation and c == self.rotation.old and c not in in_use
        ]
        choices = [(str(c.uid), self._named(c)) for c in (*in_use, *leaving)]
        taken = {role for roles in self.serving.values() for role in roles}
        if not taken.issuperset(self.holder.ROLES):
            choices.append(("", "None: no certificate is in use" + (" in these roles" if choices else "")))
        _set_choices(self, "old", choices)
        _set_choices(self, "roles", [(role, ROLE_LABELS[role]) for role in self.holder.ROLES])
        # An expired one is no successor; if it is chosen all the same, it stays here with the reason.
        chosen = str(self.data.get("certificate") or self.initial.get("certificate") or "")
        beside = [c for c in self.certificates.values() if str(c.uid) == chosen or not c.has_expired(self.now)]
        beside.sort(key=lambda c: c.not_after, reverse=True)
        _set_choices(self, "certificate", [(str(c.uid), self._named(c)) for c in beside])
        _set_choices(self, "request", [(uid, f"{r} – {r.get_state_display()}") for uid, r in self.requests.items()])

    def _named(self, certificate: AbstractCertificate) -> str:
        roles = self.serving.get(certificate.pk)
        use = " + ".join(roles) + " now" if roles else "not in use"
        ends = date_format(timezone.localtime(certificate.not_after), "j M Y")
        return f"{certificate.short_name} · {use} · until {ends}"

    def _offer_successors(self) -> None:
        own = isinstance(self.holder, Identity)
        may = self.user.has_perm
        upload = "identities.add_identitycertificate" if own else "partners.add_partnercertificate"
        offered = [
            (
                "generate",
                "Make it now – a new key and certificate",
                own and may("identities.add_certificaterequest"),
            ),
            (
                "upload",
                "Upload it – it was made elsewhere" if own else "Upload it – the partner sent it",
                may(upload),
            ),
            ("request", "It is being made – or waits for a CA’s answer", bool(self.requests)),
            (
                "inventory",
                "It is in the inventory already",
                len(self.certificates) > 1 or bool(self.certificates and not self.serving),
            ),
            ("awaited", "It comes later – set up the rest now", True),
        ]
        _set_choices(self, "successor", [(value, label) for value, label, possible in offered if possible])

    def _add_forms(self) -> None:
        data, files = (self.data, self.files) if self.is_bound else (None, None)
        self.generate: SuccessorGenerateForm | None = None
        self.upload: OwnSuccessorForm | PartnerSuccessorForm
        if isinstance(self.holder, Identity):
            old = self.certificates.get(str(self.initial.get("old") or ""))
            subject = dict.fromkeys(GenerateForm.SUBJECT, "") | subject_fields(old.certificate) if old else {}
            self.generate = SuccessorGenerateForm(self.holder, data, prefix="generate", initial=subject)
            self.upload = OwnSuccessorForm(self.holder, data, files, prefix="upload", now=self.now)
        else:
            self.upload = PartnerSuccessorForm(self.holder, data, files, prefix="upload", now=self.now)

    # Cleaned data

    @property
    def is_own(self) -> bool:
        return isinstance(self.holder, Identity)

    @property
    def chosen_old(self) -> AbstractCertificate | None:
        return self.certificates.get(self.cleaned_data.get("old") or "")

    @property
    def chosen_new(self) -> AbstractCertificate | None:
        """Return the successor when it is in the inventory already."""
        if self.cleaned_data.get("successor") == "request" and (request := self.chosen_request):
            return request.certificate
        wanted = self.cleaned_data.get("certificate") if self.cleaned_data.get("successor") == "inventory" else ""
        return self.certificates.get(wanted or "")

    @property
    def chosen_request(self) -> CertificateRequest | None:
        if self.cleaned_data.get("successor") == "request":
            return self.requests.get(self.cleaned_data.get("request") or "")
        before = self.rotation.request if self.rotation else None
        kept = before and before.certificate_id and before.certificate == self.chosen_new
        return before if kept else None

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        roles = cleaned.get("roles") or []
        self._check_roles(roles)
        self._check_successor(cleaned.get("successor") or "", roles)
        self.is_phased = cleaned.get("at_end") == AtEnd.PHASED
        if self.is_phased and roles:
            self._check_phased(roles)
        self.clean_window(cleaned)
        return cleaned

    def _check_phased(self, roles: Sequence[str]) -> None:
        """Add an error if partners can't change one by one, when each is ready."""
        side: Literal["own", "partner"] = "own" if self.is_own else "partner"
        systems = [stored_plan.planned_system(system, side) for system in self.affected_systems()]
        parties = [stored_plan.party_for_participant(participant, side) for participant in self.participants]
        if obstacle := phased_obstacle(side, {Role(role) for role in roles}, systems, parties):
            self.add_error("at_end", obstacle)

    @cached_property
    def participants(self) -> list[Participant]:
        """Return the partners that take part, those of the stored draft or all connected ones (unsaved)."""
        if self.rotation is not None:
            return stored_plan.active_participants(self.rotation)
        return [Participant(partner=partner) for partner in drafts.connected_partners(self.holder)]

    def affected_systems(self) -> list[AS2System | None]:
        """Return our AS2 systems that a change of this holder's certificate concerns."""
        rotation = Rotation()
        setattr(rotation, "identity" if self.is_own else "partner", self.holder)
        return rotation.affected_systems()

    def _check_roles(self, roles: Sequence[str]) -> None:
        if not roles or "old" in self.errors:
            return
        old = self.chosen_old
        held = self.serving.get(old.pk, []) if old else []
        taken = {role for others in self.serving.values() for role in others}
        for role in roles:
            if old is None and role in taken:
                self.add_error(
                    "roles",
                    f"A certificate serves {role} now: choose it as the one that leaves, or untick {role}.",
                )
            elif role in taken and role not in held:
                assert old is not None
                self.add_error("roles", f"{old.short_name} does not serve {role} now, another certificate does.")
        try:
            drafts.require_no_other_rotation(self.holder, roles, but=self.rotation)
        except ActionRefused as error:
            self.add_error("roles", str(error))

    def _check_successor(self, successor: str, roles: Sequence[str]) -> None:
        if successor == "generate" and self.generate is not None and not self.generate.is_valid():
            self.add_error("successor", "Something about the new certificate is missing: see below.")
        elif successor == "upload":
            self.upload.chosen_roles = roles
            if not self.upload.is_valid():
                self.add_error("successor", "The new certificate can't be taken in: see below.")
        elif successor == "inventory":
            if self.chosen_new is None:
                self.add_error("certificate", "Choose the certificate that is to take over.")
            elif self.chosen_new == self.chosen_old:
                self.add_error("certificate", "This is the one that leaves. Choose its successor.")
            else:
                self._check_expiry("certificate", self.chosen_new)
        elif successor == "request" and self.chosen_request is None:
            self.add_error("request", "Choose which of them.")
        elif successor == "request":
            self._check_expiry("request", self.chosen_new)

    def _check_expiry(self, field: str, new: AbstractCertificate | None) -> None:
        try:
            drafts.require_unexpired(new, now=self.now)
        except ActionRefused as error:
            self.add_error(field, str(error))

    def findings(self, window: Window) -> list[WindowFinding]:
        old = self.chosen_old
        begins, ends = self._validity()
        return check_window(
            window,
            now=self.now,
            old_ends=old.not_after if old else None,
            new_begins=begins,
            new_ends=ends,
            phased=self.is_phased,
        )

    def freezing(self, window: Window) -> list[str]:
        return drafts.freeze_names(self.holder, drafts.connected_partners(self.holder), window)

    @property
    def file_findings(self) -> list[pki.CertificateFinding]:
        """Return the findings about the file of an uploaded successor, which the stored certificate does not show."""
        return self.upload.material.findings if self.cleaned_data["successor"] == "upload" else []

    def _validity(self) -> tuple[datetime | None, datetime | None]:
        """Return the validity of the successor, with None for a bound that is not known."""
        successor = self.cleaned_data.get("successor")
        if successor == "generate" and self.generate and self.generate.is_valid():
            self_signed = self.generate.cleaned_data["kind"] == CertificateRequest.Kind.SELF_SIGNED
            days = timedelta(days=self.generate.cleaned_data["days"])
            return None, self.now + days if self_signed else None
        if successor == "upload" and self.upload.is_valid():
            description = pki.describe(self.upload.material.leaf)
            return description.not_before, description.not_after
        new = self.chosen_new
        return (new.not_before, new.not_after) if new else (None, None)


def _set_choices(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    field = form.fields[name]
    assert isinstance(field, forms.ChoiceField)
    field.choices = choices


def _parse_uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


def _certificates_in_use(holder: Identity | Partner) -> dict[int, list[str]]:
    """Return the roles of the certificates in use, by primary key."""
    found: dict[int, list[str]] = {}
    rows = holder.service.open().order_by("certificate__not_after", "id")
    for pk, role in rows.values_list("certificate_id", "role"):
        found.setdefault(pk, []).append(role)
    return {pk: [role for role in holder.ROLES if role in roles] for pk, roles in found.items()}


def _suggested_zones(holder: Identity | Partner, user: User, rotation: Rotation | None) -> dict[str, list[str]]:
    """Return the time zones to list first: those of the installation, of the user and of the partners."""
    theirs = [partner.time_zone for partner in drafts.connected_partners(holder)]
    stored = [rotation.window_zone] if rotation and rotation.window_zone else []
    return {
        "Here": list(dict.fromkeys([Installation.current().time_zone, user.time_zone, *stored])),
        "Partners": sorted(set(theirs)),
    }
