"""Evidence from outside: which certificate a partner's message was signed with, or encrypted to.

Only such a message shows that a partner encrypts to our new certificate, or signs with its own new one. It settles the
steps that it proves; one that still uses the old certificate after the change raises the alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from partners.models import Partner
from rotations.errors import ActionRefused
from rotations.execution import transitions
from rotations.lifecycle import open_window
from rotations.models import Participant, Rotation, Sighting, Step
from rotations.notifications import operator_mail
from rotations.planning.change import Act, Role, StepEvidence
from rotations.planning.local_time import moment
from rotations.planning.states import SETTLED, RotationState, StepAction

#: In which role of a rotation a use of a certificate counts.
ROLE_OF_USE = {Sighting.Use.SIGNED: Role.VERIFY, Sighting.Use.ENCRYPTED: Role.DECRYPT}
#: Clocks of mail and AS2 systems differ; a message later than this is a slip of the pen.
CLOCK_TOLERANCE = timedelta(minutes=15)
#: States of a rotation for which a message still says something.
OBSERVED_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
    RotationState.CLOSED,
)


@transaction.atomic
def record_sighting(
    partner: Partner, *, use: str, serial: str, at: datetime, by: Actor, now: datetime, note: str = ""
) -> Sighting:
    """Record a message of a partner's at ``at`` (UTC): signed with, or encrypted to, the certificate of this serial.

    ``serial`` may be in any spelling. It counts for the newest rotation that knows the certificate. Raises
    ActionRefused for what can't be a serial number, and for a message from the future.
    """
    spelled = pki.possible_serials(serial)
    if not spelled:
        raise ActionRefused(
            f"“{serial[:60]}” is no serial number: copy it as your system shows it, decimal or hex."
        )
    if at > now + CLOCK_TOLERANCE:
        raise ActionRefused(
            f"This message would come from the future, {moment(at, 'UTC')}. Check day and time zone."
        )
    participant, found, verdict = _match_participant(partner, use, spelled)
    sighting = Sighting.objects.create(
        partner=partner,
        participant=participant,
        use=use,
        serial=found,
        at=at,
        verdict=verdict,
        noted_at=now,
        noted_by=by.name,
        note=note,
    )
    also = [participant.rotation, participant.rotation.holder] if participant else []
    record(
        AuditEvent(
            "partner.seen",
            partner,
            also=also,
            new={
                "what": f"{sighting.get_use_display()} {sighting.get_verdict_display()}",
                "at": at.isoformat(),
            },
            reason=note,
        ),
        by=by,
        now=now,
    )
    if participant is not None:
        _apply_sighting(sighting, participant, by=by, now=now)
    return sighting


def _match_participant(partner: Partner, use: str, serials: list[str]) -> tuple[Participant | None, str, str]:
    """Return the newest participation whose rotation knows one of the serials, which it is, and old or new."""
    role = ROLE_OF_USE[Sighting.Use(use)]
    parts = Participant.objects.filter(
        partner=partner, removed_reason="", rotation__state__in=OBSERVED_STATES
    )
    side = "partner" if use == Sighting.Use.SIGNED else "identity"
    knows = Q(**{f"rotation__new_{side}_certificate__serial__in": serials}) | Q(
        **{f"rotation__old_{side}_certificate__serial__in": serials}
    )
    whole = [f"rotation__{column}" for column in transitions.ROTATION_RELATIONS]
    for participant in parts.filter(knows).select_related("partner", *whole).order_by("-rotation_id"):
        rotation = participant.rotation
        if role not in rotation.roles:
            continue
        for certificate, verdict in (
            (rotation.new, Sighting.Verdict.NEW),
            (rotation.old, Sighting.Verdict.OLD),
        ):
            if certificate is not None and certificate.serial in serials:
                return participant, certificate.serial, verdict
    return None, serials[0], Sighting.Verdict.OTHER


def _apply_sighting(sighting: Sighting, participant: Participant, *, by: Actor, now: datetime) -> None:
    rotation = transitions.lock_rotation(participant.rotation_id)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    if sighting.verdict == Sighting.Verdict.NEW:
        _mark_migrated(rotation, participant, sighting, by=by, now=now)
    elif sighting.verdict == Sighting.Verdict.OLD and is_late(participant, sighting.at):
        _mark_straggling(rotation, participant, sighting, now=now)


def is_late(participant: Participant, at: datetime) -> bool:
    """Say whether a message with the old certificate came after the change: once the partner's window was over."""
    made = participant.rotation.state in (
        RotationState.UNDER_WAY,
        RotationState.APPLIED,
        RotationState.CLOSED,
    )
    return made and participant.ends is not None and at >= participant.ends


def _mark_migrated(
    rotation: Rotation, participant: Participant, sighting: Sighting, *, by: Actor, now: datetime
) -> None:
    if participant.migrated_at is None or sighting.at < participant.migrated_at:
        participant.migrated_at = sighting.at
    if participant.straggling_at is not None and sighting.at > participant.straggling_at:
        participant.straggling_at = None
    participant.save(update_fields=["migrated_at", "straggling_at"])
    open_steps = participant.steps.exclude(state__in=SETTLED).filter(blocked=False).order_by("position")
    proof = f"a message of {moment(sighting.at, 'UTC')} used it (serial {sighting.serial})"
    for step in _proven_steps(open_steps, ROLE_OF_USE[Sighting.Use(sighting.use)]):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=proof)
    open_window.switch_on_evidence(rotation, participant, proof, by=by, now=now)


def _proven_steps(steps: Iterable[Step], role: str) -> list[Step]:
    """Return the steps that an inbound message with the new certificate shows to be done."""
    return [
        step
        for step in steps
        if StepEvidence.INBOUND_MESSAGE in step.evidence
        and (step.act != Act.PARTNER_CUT_OVER or any(effect["role"] == role for effect in step.effects))
    ]


def _mark_straggling(
    rotation: Rotation, participant: Participant, sighting: Sighting, *, now: datetime
) -> None:
    newer = participant.migrated_at is not None and participant.migrated_at > sighting.at
    if newer or (participant.straggling_at is not None and participant.straggling_at >= sighting.at):
        return
    first = participant.straggling_at is None
    participant.straggling_at = sighting.at
    participant.save(update_fields=["straggling_at"])
    if first:
        text = f"{participant.partner} still uses the old certificate."
        more = (
            f"A message of {moment(sighting.at, participant.partner.time_zone)} was {sighting.get_use_display()} it. "
            "Call them before the old certificate is retired here."
        )
        operator_mail.notify_partner_response(rotation, participant, text, more, at=now)
