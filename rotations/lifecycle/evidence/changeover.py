"""Whether partners have changed over: what their messages show, and what happens when nothing shows it.

A message that used the new certificate completes the steps that it proves; one that used the old certificate after the
change raises an alarm. The old certificate is retired only when every participant is confirmed, waived, or warned after
the grace period; and never before late messages have drained.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from partners.models import Partner
from rotations.errors import ActionRefused
from rotations.execution import changeover_moment, fingerprint_check, transitions
from rotations.letters import sending
from rotations.letters.context import LetterContext
from rotations.models import Letter, Participant, Rotation, Sighting, Step
from rotations.models.evidence import find_used_certificate
from rotations.notifications import exchange_mail, outcome_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepAction

#: How far the clocks of AS2 systems may differ; a message later than this is a typing error.
CLOCK_TOLERANCE = timedelta(minutes=15)


#: States of a rotation in which sightings count.
OBSERVED_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
    RotationState.CLOSED,
)


#: How long after the warning the old certificate is removed.
WARNING_PERIOD = timedelta(days=7)


#: Acts that may still be open when the grace period is over. A test is ours to record once a message was seen.
OWED_ACTS = (Act.PARTNER_CUT_OVER, Act.TEST)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObservedMessage:
    """A message of a partner's at ``at`` (UTC), and the certificate that it was signed with or encrypted to.

    ``serial`` is its serial number, decimal or hex, in any notation; ``issuer`` and ``sha256``, a fingerprint in any
    notation, are given where the AS2 system shows them.
    """

    use: str
    serial: str
    at: datetime
    note: str = ""
    issuer: str = ""
    sha256: str = ""


@transaction.atomic
def record_sighting(partner: Partner, message: ObservedMessage, *, by: Actor, now: datetime) -> Sighting:
    """Record which certificate a message of a partner used, for the newest rotation with that certificate.

    A message with the new certificate completes the steps that it proves; one with the old certificate after the
    change notifies the owners. One with a certificate that no approved rotation knows is kept, see
    ``apply_early_sightings``, and the owners are notified of what they have to do about it.

    Raises ActionRefused for an impossible serial number, and for a message from the future; PkiError for an impossible
    fingerprint.
    """
    serials = pki.possible_serials(message.serial)
    if not serials:
        raise ActionRefused(
            f"“{message.serial[:60]}” is no serial number: copy it as your system shows it, decimal or hex."
        )
    if message.at > now + CLOCK_TOLERANCE:
        raise ActionRefused(
            f"This message would come from the future, {format_moment(message.at, 'UTC', 'offset')}. "
            "Check day and time zone."
        )
    sha256 = pki.normalise_fingerprint(message.sha256) if message.sha256 else ""
    participant, serial, verdict = _match_participant(partner, message.use, serials, sha256)
    sighting = Sighting.objects.create(
        partner=partner,
        participant=participant,
        use=message.use,
        serial=serial,
        issuer=message.issuer,
        sha256=sha256,
        at=message.at,
        verdict=verdict,
        noted_at=now,
        noted_by=by.name,
        note=message.note,
    )
    also = [participant.rotation, participant.rotation.holder] if participant else []
    record(
        AuditEvent(
            "partner.seen",
            partner,
            also=also,
            new={
                "what": f"{sighting.get_use_display()} {sighting.get_verdict_display()}",
                "at": message.at.isoformat(),
                **({} if participant else {"certificate": sighting.certificate_text}),
            },
            reason=message.note,
        ),
        by=by,
        now=now,
    )
    if participant is not None:
        _apply_sighting(sighting, participant, by=by, now=now)
    elif verdict != Sighting.Verdict.OTHER and (evidence := sighting.early_evidence()) and evidence.kind != "ours":
        exchange_mail.notify_early_evidence(sighting, evidence, at=now)
    return sighting


@transaction.atomic
def dismiss_sighting(sighting: Sighting, *, reason: str, by: Actor, now: datetime) -> None:
    """Record that nothing is to be done about the certificate of a partner's messages, noted so far.

    They stay evidence if the certificate comes into service later. Raises ActionRefused without a reason, and where
    nothing waits for a decision.
    """
    if not reason.strip():
        raise ActionRefused("Say why nothing is to be done: the reason stays in the trail.")
    alike = sighting.partner.sightings.early().undecided().filter(use=sighting.use, serial=sighting.serial)
    if not alike.update(dismissed_at=now):
        raise ActionRefused("Nothing waits for a decision here any more: look at the partner’s page.")
    certificate = {"certificate": f"{sighting.get_use_display()} {sighting.certificate_text}"}
    record(AuditEvent("partner.seen_dismissed", sighting.partner, new=certificate, reason=reason), by=by, now=now)


def _match_participant(
    partner: Partner, use: str, serials: list[str], sha256: str
) -> tuple[Participant | None, str, str]:
    """Return the newest participant whose rotation has one of the serials, that serial, and the verdict."""
    role = Sighting.Use(use).role
    parts = Participant.objects.filter(partner=partner, removed_reason="", rotation__state__in=OBSERVED_STATES)
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
            if certificate is None or sha256 not in ("", certificate.sha256):
                continue
            if certificate.serial in serials:
                return participant, certificate.serial, verdict
    known = find_used_certificate(partner, use, serials, sha256)
    if known is None:
        return None, serials[0], Sighting.Verdict.UNKNOWN
    has_role = known.service.exists()
    return None, known.serial, Sighting.Verdict.OTHER if has_role else Sighting.Verdict.AHEAD


def apply_early_sightings(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Count the messages with the new certificate that were noted before the rotation was approved.

    Call it in the transaction of the approval, before steps are unblocked: a step that such a message proves is
    completed as soon as it opens.
    """
    if rotation.new is None:
        return
    use = Sighting.Use.SIGNED if rotation.partner_id else Sighting.Use.ENCRYPTED
    if use.role not in rotation.roles:
        return
    participants = {one.partner_id: one for one in rotation.participants.filter(removed_reason="")}
    early = Sighting.objects.early().of_certificate(rotation.new).filter(use=use, partner__in=participants)
    for sighting in early.select_related("partner").order_by("at", "id"):
        participant = participants[sighting.partner_id]
        sighting.participant, sighting.verdict = participant, Sighting.Verdict.NEW
        sighting.save(update_fields=["participant", "verdict"])
        if participant.migrated_at is None:
            participant.migrated_at = sighting.at
            participant.save(update_fields=["migrated_at"])
        record(
            AuditEvent(
                "partner.seen_early",
                rotation,
                also=[rotation.holder, sighting.partner],
                new={"partner": sighting.partner.name, "at": sighting.at.isoformat()},
            ),
            by=by,
            now=now,
        )


def _apply_sighting(sighting: Sighting, participant: Participant, *, by: Actor, now: datetime) -> None:
    rotation = transitions.lock_rotation(participant.rotation_id)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    if sighting.verdict == Sighting.Verdict.NEW:
        _mark_migrated(rotation, participant, sighting, by=by, now=now)
        if evidence := fingerprint_check.uncompared_evidence(rotation):
            exchange_mail.notify_early_evidence(sighting, evidence, at=now)
    elif sighting.verdict == Sighting.Verdict.OLD and is_late(participant, sighting.at):
        _mark_straggling(rotation, participant, sighting, now=now)


def is_late(participant: Participant, at: datetime) -> bool:
    """Return whether a message at ``at`` comes after the change, when the partner's window was over."""
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
    for step in filter(sighting.proves, open_steps):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=sighting.text)
    changeover_moment.switch_on_evidence(rotation, participant, sighting.text, by=by, now=now)


def _mark_straggling(rotation: Rotation, participant: Participant, sighting: Sighting, *, now: datetime) -> None:
    newer = participant.migrated_at is not None and participant.migrated_at > sighting.at
    if newer or (participant.straggling_at is not None and participant.straggling_at >= sighting.at):
        return
    first = participant.straggling_at is None
    participant.straggling_at = sighting.at
    participant.save(update_fields=["straggling_at"])
    if first:
        text = f"{participant.partner} still uses the old certificate."
        advice = (
            f"A message of {format_moment(sighting.at, participant.partner.time_zone, 'offset')} was "
            f"{sighting.get_use_display()} it. Call them before the old certificate is retired here."
        )
        news = PartnerNews(News.USES_OLD, text, advice=advice)
        exchange_mail.notify_partner_response(participant, news, at=now)


def warn_and_release(now: datetime) -> int:
    """Warn partners without evidence when the grace period is over, and skip the steps of those warned a week ago.

    Return how many were warned or released. A partner that was seen with the old certificate is left to an operator,
    and one that was seen with the new certificate is not warned of what our own people still have to record.
    """
    due = Rotation.objects.filter(
        state=RotationState.APPLIED,
        steps__act=Act.RETIRE,
        steps__state="waiting",
        steps__blocked=True,
        steps__earliest_at__lte=now,
    ).distinct()
    return sum(_process_rotation(pk, now=now) for pk in due.order_by("pk").values_list("pk", flat=True))


def _process_rotation(pk: int, *, now: datetime) -> int:
    try:
        with transaction.atomic():
            return _warn_or_release(pk, now=now)
    except Exception:
        # A failure with one rotation must not stop the others; it is tried again in the next run.
        log.exception("Rotation %s: its stragglers could not be warned", pk)
        return 0


def _warn_or_release(pk: int, *, now: datetime) -> int:
    rotation = transitions.lock_rotation(pk)
    if rotation.state != RotationState.APPLIED:
        return 0
    count = 0
    for participant in rotation.participants.select_related("partner").prefetch_related("partner__contacts"):
        participant.rotation = rotation
        owed = participant.steps.filter(act__in=OWED_ACTS, blocked=False).exclude(state__in=SETTLED)
        open_steps = list(owed.order_by("position"))
        if not open_steps or participant.is_removed:
            continue
        if all(step.act == Act.TEST for step in open_steps) and participant.has_moved():
            _remind_of_test(rotation, participant, open_steps[0], now=now)
        elif participant.warned_at is None:
            _warn(rotation, participant, now=now)
            count += 1
        elif participant.straggling_at is None and participant.warned_at + WARNING_PERIOD <= now:
            for step in open_steps:
                note = f"warned on {format_moment(participant.warned_at, 'UTC', 'day')}, and nothing was heard"
                transitions.settle_step(step, StepAction.SKIP, by=Actor.runner(), now=now, note=note)
            count += 1
    return count


def _remind_of_test(rotation: Rotation, participant: Participant, step: Step, *, now: datetime) -> None:
    """Remind our people of a test that is theirs to record: the partner has moved, and owes nothing."""
    shown = f"{participant.partner} says that it uses the new certificate"
    if participant.migrated_at is not None:
        at = format_moment(participant.migrated_at, participant.partner.time_zone, "offset")
        shown = f"{participant.partner} uses the new certificate: a message of {at} showed it"
    reason = (
        f"{shown}. Only the test of our own is not recorded, and the old certificate stays until it is. Record its "
        "result, or leave it out with a reason."
    )
    outcome_mail.notify_own_step_open(rotation, step, reason, at=now)


def _warn(rotation: Rotation, participant: Participant, *, now: datetime) -> None:
    participant.warned_at = now
    participant.save(update_fields=["warned_at"])
    by = Actor.runner()
    contacts = sending.informed_contacts(participant, Letter.Kind.WARNED)
    context = LetterContext.of(participant, now=now)
    sent = sending.send_letters(context, Letter.Kind.WARNED, contacts, by=by, event="grace over")
    record(
        AuditEvent(
            "participant.warned",
            rotation,
            also=[rotation.holder, participant.partner],
            new={
                "partner": participant.partner.name,
                "by mail": [letter.message.to_address for letter in sent],
            },
        ),
        by=by,
        now=now,
    )
    goes = format_moment(now + WARNING_PERIOD, rotation.window_zone or "UTC", "day")
    advice = f"The old certificate goes on {goes} unless you hold it. " + (
        "They were warned by mail." if sent else "Nobody there could be written to: call them."
    )
    text = f"Nothing shows that {participant.partner} uses the new certificate."
    exchange_mail.notify_partner_response(participant, PartnerNews(News.NO_EVIDENCE, text, advice=advice), at=now)
