"""Create and change drafts: the holder, certificates, roles, window and participants of a rotation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, changed_fields, record
from as2certs.time_format import format_moment
from identities.certificates import pair_checks
from identities.certificates.checks import check_for_station
from identities.connectors import sends_keys
from identities.models import CertificateRequest, Identity, IdentityCertificate, PairCheck
from identities.stations import AbstractCertificate
from partners.models import Partner, PartnerCertificate
from rotations.errors import ActionRefused
from rotations.execution import transitions
from rotations.lifecycle import four_eyes
from rotations.models import Freeze, Participant, Rotation
from rotations.planning import freeze_calendar, states, window_suggestions
from rotations.planning.windows import Window, WindowFinding

AnyCertificate = IdentityCertificate | PartnerCertificate

#: How long a certificate and its key, which don't change, are known to work together.
PAIR_CHECK_AGE = timedelta(hours=1)


@dataclass(frozen=True)
class DraftSpec:
    """The content of a draft. Without ``new`` and ``request``, the successor is still to come."""

    roles: tuple[str, ...]
    old: AnyCertificate | None
    new: AnyCertificate | None = None
    request: CertificateRequest | None = None
    window: Window | None = None
    freeze_reason: str = ""
    at_end: str = ""
    grace_days: int = 14
    notes: str = ""


def connected_partners(holder: Identity | Partner) -> list[Partner]:
    """Return the partners that are affected by a change of this holder's certificate."""
    if isinstance(holder, Partner):
        return [holder]
    return list(
        Partner.objects.active()
        .filter(partnerships__identity=holder, partnerships__archived_at=None, environment=holder.environment)
        .order_by("name", "id")
    )


@transaction.atomic
def create_draft(holder: Identity | Partner, spec: DraftSpec, *, by: Actor, now: datetime) -> Rotation:
    """Create a rotation as a draft, with every connected partner as a participant.

    Raises ActionRefused if the holder is archived, the successor has expired, or another rotation already changes one
    of these roles.
    """
    # Locked until the end, so that of two people who create the same draft at once the second one is refused.
    locked = type(holder)._base_manager.select_for_update().get(pk=holder.pk)
    if locked.archived_at is not None:
        raise ActionRefused(f"{holder} is archived: restore it first, then start the rotation.")
    require_unexpired(spec.new, now=now)
    require_no_other_rotation(holder, spec.roles)
    rotation = Rotation(set_up_by=by.user, set_up_at=now)
    if isinstance(holder, Identity):
        rotation.identity = holder
    else:
        rotation.partner = holder
    _assign_spec(rotation, spec)
    rotation.save()
    Participant.objects.bulk_create(
        Participant(rotation=rotation, partner=partner) for partner in connected_partners(holder)
    )
    four_eyes.record_change(rotation, by)
    also = [holder, *(c for c in (spec.old, spec.new) if c is not None)]
    record(AuditEvent("rotation.set_up", rotation, also=also, new=_audit_values(rotation)), by=by, now=now)
    check_pair(rotation, by=by, now=now)
    return rotation


@transaction.atomic
def change_draft(rotation: Rotation, spec: DraftSpec, *, by: Actor, now: datetime) -> Rotation:
    """Change a draft.

    Raises IllegalTransition if it was approved, ActionRefused if the successor has expired or another rotation changes
    one of these roles.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    states.next_state(states.RotationState(rotation.state), states.RotationAction.EDIT)
    require_unexpired(spec.new, now=now)
    require_no_other_rotation(rotation.holder, spec.roles, but=rotation)
    before = _audit_values(rotation)
    _assign_spec(rotation, spec)
    rotation.set_up_by = by.user
    rotation.save()
    four_eyes.record_change(rotation, by)
    Participant.objects.bulk_create(
        Participant(rotation=rotation, partner=partner) for partner in newly_connected_partners(rotation)
    )
    old, new = changed_fields(before, {**dict.fromkeys(before, ""), **_audit_values(rotation)})
    record(AuditEvent("rotation.changed", rotation, also=[rotation.holder], old=old, new=new), by=by, now=now)
    check_pair(rotation, by=by, now=now)
    return rotation


def newly_connected_partners(rotation: Rotation) -> list[Partner]:
    """Return the partners that are connected with the holder and not part of its rotation."""
    present = set(rotation.participants.values_list("partner_id", flat=True))
    return [partner for partner in connected_partners(rotation.holder) if partner.pk not in present]


def _assign_spec(rotation: Rotation, spec: DraftSpec) -> None:
    rotation.roles = list(spec.roles)
    rotation.request = spec.request
    rotation.grace_days = spec.grace_days
    rotation.notes = spec.notes
    rotation.freeze_reason = spec.freeze_reason
    rotation.at_end = spec.at_end
    if rotation.identity_id:
        assert not isinstance(spec.old, PartnerCertificate)
        assert not isinstance(spec.new, PartnerCertificate)
        rotation.old_identity_certificate, rotation.new_identity_certificate = spec.old, spec.new
    else:
        assert not isinstance(spec.old, IdentityCertificate)
        assert not isinstance(spec.new, IdentityCertificate)
        rotation.old_partner_certificate, rotation.new_partner_certificate = spec.old, spec.new
    set_window(rotation, spec.window)


def set_window(rotation: Rotation, window: Window | None) -> None:
    """Set a rotation's window (or none), with its local times as text (does not save)."""
    rotation.window_start = window.start if window else None
    rotation.window_end = window.end if window else None
    rotation.window_zone = window.zone if window else ""
    rotation.window_local = window.local_text if window else ""


def _audit_values(rotation: Rotation) -> dict[str, object]:
    return {
        "roles": list(rotation.roles),
        "old": str(rotation.old or ""),
        "new": str(rotation.new or ""),
        "window": f"{rotation.window_local} {rotation.window_zone}".strip(),
        "grace_days": rotation.grace_days,
        **({"moment": rotation.get_at_end_display()} if rotation.at_end else {}),
        **({"freeze overridden": rotation.freeze_reason} if rotation.freeze_reason else {}),
    }


def freeze_names(holder: Identity | Partner, partners: Iterable[Partner], window: Window) -> list[str]:
    """Return the freezes that overlap a window, as text with the identity or partner that they apply to."""
    concerned = Freeze.objects.concerning(holder, partners).select_related("identity", "partner")
    found = [freeze for freeze in concerned if freeze_calendar.freezes_touching(window, [freeze.period])]
    return [f"{freeze} ({freeze.target})" if freeze.target else str(freeze) for freeze in found]


def suggest_windows(
    holder: Identity | Partner,
    *,
    old: AnyCertificate | None,
    new: AnyCertificate | None,
    zone: str,
    now: datetime,
) -> list[window_suggestions.WindowSuggestion]:
    """Return suggested windows of one hour for a change of this holder's certificate."""
    ours, partners = Installation.current(), connected_partners(holder)
    days = frozenset(ours.works_days)
    hours = [window_suggestions.WorkingHours("we", ours.time_zone, ours.works_from, ours.works_until, days)]
    hours += [
        window_suggestions.WorkingHours(
            partner.name,
            partner.time_zone,
            partner.works_from or ours.works_from,
            partner.works_until or ours.works_until,
            days,
        )
        for partner in partners
    ]
    spec = window_suggestions.WindowRequirements(
        now=now,
        length=timedelta(hours=1),
        zone=zone,
        hours=hours,
        freezes=[freeze.period for freeze in Freeze.objects.concerning(holder, partners)],
        lead=window_suggestions.longest_lead([partner.lead_days for partner in partners], usual=ours.lead_days),
        old_ends=old.not_after if old else None,
        new_begins=new.not_before if new else None,
        new_ends=new.not_after if new else None,
    )
    return window_suggestions.suggest_windows(spec)


def require_no_other_rotation(
    holder: Identity | Partner, roles: Collection[str], *, but: Rotation | None = None
) -> None:
    """Raise ActionRefused if another rotation changes one of these roles of the same holder."""
    running = Rotation.objects.of(holder).running()
    if but is not None:
        running = running.exclude(pk=but.pk)
    for other in running:
        common = sorted(set(roles) & set(other.roles))
        if common:
            raise ActionRefused(
                f"Another rotation of {holder} already changes {' and '.join(common)} ({other.get_state_display()}). "
                "Go on with that one, or cancel it first."
            )


def require_unexpired(new: AbstractCertificate | None, *, now: datetime) -> None:
    """Raise ActionRefused if a successor has expired: it may be recorded as in use, but nothing is rotated to it."""
    if new is not None and new.has_expired(now):
        raise ActionRefused(
            f"{new.short_name} expired on {format_moment(new.not_after, 'UTC', 'iso')} UTC, and nothing is rotated to "
            "an expired certificate. Choose another one, generate it, or add it later."
        )


def assign_generated_successors(*, now: datetime) -> int:
    """Set the successor of drafts that wait for a generated or issued certificate, and return how many.

    One that has expired meanwhile is no successor.
    """
    waiting = Rotation.objects.filter(
        Q(state=states.RotationState.DRAFT),
        request__certificate__not_after__gte=now,
        new_identity_certificate=None,
    )
    return sum(_assign_generated_successor(pk, now=now) for pk in waiting.values_list("pk", flat=True))


@transaction.atomic
def _assign_generated_successor(pk: int, *, now: datetime) -> bool:
    rotation = transitions.lock_rotation(pk)
    if rotation.state != states.RotationState.DRAFT or rotation.new is not None or rotation.request is None:
        return False
    certificate = rotation.request.certificate
    assert certificate is not None  # guaranteed by the query
    assign_successor(rotation, certificate, by=Actor.runner(), now=now)
    return True


def assign_successor(rotation: Rotation, certificate: AnyCertificate, *, by: Actor, now: datetime) -> None:
    """Set the successor of a draft; call it with the rotation locked. Raises ActionRefused if it has expired."""
    require_unexpired(certificate, now=now)
    rotation.set_successor(certificate)
    rotation.save(update_fields=["new_identity_certificate", "new_partner_certificate"])
    record(
        AuditEvent(
            "rotation.successor_ready",
            rotation,
            also=[rotation.holder, certificate],
            new={"new": str(certificate)},
        ),
        by=by,
        now=now,
    )
    check_pair(rotation, by=by, now=now)


def check_pair(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Check that our new certificate and its private key work together; ``successor_findings`` has the result.

    Skipped if they did a short while ago: reading the key from a file takes a tenth of a second.
    """
    new = rotation.new_identity_certificate
    if new is None:
        return
    good = PairCheck.objects.filter(certificate=new, problem="", checked_at__gte=now - PAIR_CHECK_AGE)
    if not good.exists():
        pair_checks.check_pair(new, by=by, now=now)


def clear_successor(rotation: Rotation, *, reason: str, by: Actor, now: datetime) -> None:
    """Remove the refused successor of a draft; call it with the rotation locked."""
    refused = rotation.new
    assert refused is not None  # callers check this
    rotation.new_identity_certificate = rotation.new_partner_certificate = None
    rotation.save(update_fields=["new_identity_certificate", "new_partner_certificate"])
    record(
        AuditEvent(
            "rotation.successor_refused",
            rotation,
            also=[rotation.holder, refused],
            old={"new": str(refused)},
            reason=reason,
        ),
        by=by,
        now=now,
    )


@transaction.atomic
def remove_participant(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Remove a partner from a draft, for a reason.

    Raises IllegalTransition once the rotation was approved: its plan includes every participant.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    states.next_state(states.RotationState(rotation.state), states.RotationAction.EDIT)
    if rotation.side == "partner":
        raise ActionRefused("It is this partner's own certificate that changes: cancel the rotation instead.")
    if not reason.strip():
        raise ActionRefused("Say why this partner takes no part: it goes on trading with the old certificate.")
    Participant.objects.filter(pk=participant.pk).update(removed_reason=reason)
    four_eyes.record_change(rotation, by)
    record(
        AuditEvent("participant.removed", rotation, also=[rotation.holder, participant.partner], reason=reason),
        by=by,
        now=now,
    )


@transaction.atomic
def restore_participant(participant: Participant, *, by: Actor, now: datetime) -> None:
    """Add a removed partner to a draft again.

    Raises IllegalTransition once the rotation was approved, ActionRefused if the partner takes part.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    states.next_state(states.RotationState(rotation.state), states.RotationAction.EDIT)
    left_out = rotation.participants.filter(pk=participant.pk).exclude(removed_reason="")
    if not left_out.update(removed_reason=""):
        raise ActionRefused(f"{participant.partner} takes part already.")
    four_eyes.record_change(rotation, by)
    record(
        AuditEvent("participant.restored", rotation, also=[rotation.holder, participant.partner]),
        by=by,
        now=now,
    )


def successor_findings(rotation: Rotation, *, now: datetime) -> list[pki.CertificateFinding]:
    """Return the findings about the successor of a rotation, errors first; none without a successor."""
    new = rotation.new
    if new is None:
        return []
    found = check_for_station(rotation.holder, new.material, roles=rotation.roles, now=now, predecessor=rotation.old)
    return [*_key_findings(rotation, new), *found] if isinstance(new, IdentityCertificate) else found


def _key_findings(rotation: Rotation, new: IdentityCertificate) -> list[pki.CertificateFinding]:
    """Return an error if a certificate of ours and its key don't work together, and a warning if it goes without it."""
    findings = pair_checks.pair_findings(new)
    system = rotation.identity.as2_system if rotation.identity else None
    if system is not None and not sends_keys(system):
        findings.append(
            pki.CertificateFinding(
                "key_by_hand",
                "warning",
                f"The private key is not sent to {system}.",
                "Have an administrator download the certificate with its private key, and load it there before the "
                "first step of the plan.",
            )
        )
    return findings


def error_text(findings: Iterable[pki.CertificateFinding | WindowFinding]) -> str:
    """Return the errors among the findings as sentences; empty if there are none."""
    return " ".join(f"{f.reason} {f.advice}" for f in findings if f.level == "error")


def warning_text(findings: Iterable[pki.CertificateFinding | WindowFinding], *, freeze_reason: str = "") -> str:
    """Return the warnings among the findings as sentences, and why a freeze is overridden; empty without any."""
    found = [f.reason for f in findings if f.level == "warning"]
    if freeze_reason:
        found.append(f"The window may lie in a freeze: {freeze_reason}")
    return " ".join(found)


def initial_values(holder: Identity | Partner) -> Mapping[str, object]:
    """Return the initial values of a new draft: the certificate that expires first, and all its roles."""
    rows = list(holder.service.open().select_related("certificate").order_by("certificate__not_after", "id"))
    if not rows:
        return {"old": None, "roles": []}
    old = rows[0].certificate
    roles = {row.role for row in rows if row.certificate == old}
    return {"old": old, "roles": [role for role in holder.ROLES if role in roles]}
