"""Whether mails to our own people are still true when they leave: one short function for each kind that can change.

A mail that is withdrawn frees its key, so that the next run of the reminders writes it anew if there is still a reason.
Mails about what somebody did at a moment, such as that a change was cancelled, stay true and have no check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from as2certs.mail.models import Message
from as2certs.mail.validity import Withdrawal
from as2certs.time_format import format_countdown
from partners.models import Partnership, StationBaseline, TlsCertificate
from rotations.models import HandedIn, Notice, Participant, Rotation, Sighting, rehearsal
from rotations.notifications import applied_mail, window_mail
from rotations.notifications.exchange_mail import News
from rotations.notifications.expiry import HOLDER_KINDS, find_still_expiring
from rotations.notifications.recipients import Recipient
from rotations.notifications.station_mail import reminder_facts
from rotations.notifications.texts import format_names, last_moment_facts, readiness_facts
from rotations.notifications.thresholds import PENDING_STATES
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

#: How long a countdown in a mail, such as "in 24 hours", is left as it is: a run and the next sender are seconds apart.
COUNTDOWN_TOLERANCE = timedelta(minutes=10)

RotationCheck = Callable[[Message, Rotation, datetime], str]


def find_withdrawal(message: Message, now: datetime) -> Withdrawal | None:
    """Return why a mail to our own people is no longer true; None if it is, or can't change."""
    if "changes" in message.facts:
        return _check_applied_together(message)
    if message.kind in ROTATION_CHECKS:
        rotation = rotation_of(message)
        if rotation is None:
            return None
        reason = ROTATION_CHECKS[message.kind](message, rotation, now)
        return Withdrawal(reason, [rotation, rotation.holder]) if reason else None
    check = OTHER_CHECKS.get(message.kind)
    return check(message, now) if check else None


def rotation_of(message: Message) -> Rotation | None:
    """Return the rotation that a mail to our own people is about, if it is about one."""
    uid = message.facts.get("rotation")
    return Rotation.objects.filter(uid=UUID(uid)).first() if uid else None


def explain_window(message: Message, rotation: Rotation, now: datetime) -> str:
    """Return why what a mail says of the window and the time until then is no longer true; empty if it is."""
    start = rotation.window_start
    if rotation.ended_at is not None:
        return f"The rotation has ended ({rotation.get_state_display()})."
    if start is None or start.isoformat() != message.facts.get("window"):
        return "The window has moved since this was written."
    if is_countdown_over(message, start, now):
        return "The time until the window that it names is no longer right."
    return ""


def _check_window_soon(message: Message, rotation: Rotation, now: datetime) -> str:
    if reason := explain_window(message, rotation, now):
        return reason
    if rotation.state not in (RotationState.EXCHANGING, RotationState.SCHEDULED):
        return f"The rotation is {rotation.get_state_display()} by now."
    if rotation.window_start is not None and rotation.window_start <= now:
        return "The window has begun."
    return _explain_readiness(message, rotation)


def _explain_readiness(message: Message, rotation: Rotation) -> str:
    current = readiness_facts(rotation)
    if current["outstanding"] != message.facts.get("outstanding"):
        return "Which partners are not ready has changed since this was written."
    if current["own_steps"] != message.facts.get("own_steps"):
        return "What is open on our own side has changed since this was written."
    if current["kept_back"] != message.facts.get("kept_back"):
        return "What keeps the change back has changed since this was written."
    return ""


def _check_last_moment(message: Message, rotation: Rotation, now: datetime) -> str:
    last = rotation.window_end
    if not rotation.is_phased or last is None or last.isoformat() != message.facts.get("window_end"):
        return "The last moment has moved since this was written."
    if rotation.state not in AWAITING_WINDOW or last <= now:
        return "The last moment is over, or the change was made or called off."
    if is_countdown_over(message, last, now):
        return "The time until the last moment that it names is no longer right."
    current = last_moment_facts(rotation)
    if any(current[name] != message.facts.get(name) for name in current):
        return "Who has not changed, or what keeps the change back, is different by now."
    return ""


def is_countdown_over(message: Message, until: datetime, now: datetime) -> bool:
    """Return whether the time until a moment (UTC) is no longer the one that a mail names."""
    is_old = now - message.created_at > COUNTDOWN_TOLERANCE
    return is_old and format_countdown(until, now) != format_countdown(until, message.created_at)


def _check_not_started(message: Message, rotation: Rotation, now: datetime) -> str:
    waiting = rotation.steps.filter(act=Act.CUT_OVER, state=StepState.WAITING, participant=None)
    if rotation.state not in PENDING_STATES or not waiting.exists():
        return "The change has started, or was called off."
    start, end = rotation.window_start, rotation.window_end
    if start is None or start.isoformat() != message.facts.get("window"):
        return "The window has moved since this was written."
    if end is not None and end <= now:
        return "The window is over, which another mail reports."
    return _explain_readiness(message, rotation)


def _check_needs_attention(message: Message, rotation: Rotation, now: datetime) -> str:
    facts = message.facts
    if facts.get("missed"):
        is_missed = Rotation.objects.overdue(now).filter(pk=rotation.pk).exists()
        return "" if is_missed else "The window was moved, or the change was made or called off."
    if because := facts.get("withdrawn_because"):
        is_withdrawn = rotation.is_withdrawn and rotation.withdrawn_because == because
        return "" if is_withdrawn else "The rotation was approved again, or has ended."
    if lacks := facts.get("rehearsal"):
        is_lacking = rotation.state == RotationState.EXCHANGING and rehearsal.rehearsal_obstacle(rotation) == lacks
        return "" if is_lacking else "The rehearsal no longer keeps the change back, or lacks something else."
    failed = rotation.steps.filter(uid=UUID(facts["step"]), state=StepState.FAILED)
    return "" if failed.exists() else "The step was done or skipped, or is tried again."


def _check_own_step(message: Message, rotation: Rotation, now: datetime) -> str:
    step = rotation.steps.filter(uid=UUID(message.facts["step"])).first()
    if step is None or step.state in SETTLED:
        return "The step was done or skipped, or the plan has another one."
    start = rotation.window_start
    if message.facts["opens"] and message.facts["opens"] != (start.isoformat() if start else ""):
        return "The window has moved since this was written."
    return ""


def _check_applied_together(message: Message) -> Withdrawal | None:
    """Check a mail about several changes; withdrawn, the rest of them are told anew."""
    rotations = applied_mail.taken_back(message)
    if not rotations:
        return None
    holders = [rotation.holder for rotation in rotations]
    return Withdrawal(
        f"The change of {format_names([holder.name for holder in holders])} was taken back since this was written.",
        [*rotations, *holders],
        follow_up=partial(applied_mail.record_again, message),
    )


def _check_applied(message: Message, rotation: Rotation, now: datetime) -> str:
    went_back = rotation.state in applied_mail.TAKEN_BACK
    return "The change was taken back since this was written." if went_back else ""


def _check_partner_response(message: Message, rotation: Rotation, now: datetime) -> str:
    found = rotation.participants.select_related("partner").filter(uid=UUID(message.facts["participant"]))
    participant = found.first()
    if participant is None:
        return "The partner takes no part in the rotation any more."
    participant.rotation = rotation
    news, about, at = News(message.facts["news"]), message.facts["about"], message.facts["at"]
    match news:
        case News.PROPOSAL:
            is_true = _is_undecided(participant, participant.proposed_at, at)
        case News.REFUSAL:
            is_true = _is_undecided(participant, participant.declined_at, at)
        case News.TROUBLE:
            is_true = participant.works is False and _is_moment(participant.works_at, at)
        case News.CONTACT:
            is_true = participant.partner.contacts.filter(uid=UUID(about)).exclude(suggested_by="").exists()
        case News.CAPABILITY:
            is_true = participant.is_capability_undecided and participant.says_keeps_both == about
        case News.USES_OLD:
            is_true = participant.straggling_at is not None
        case News.NOT_ACCEPTED:
            is_true = participant.contradicts_confirmation and _is_moment(participant.probe_refused_at, at)
        case News.NO_EVIDENCE:
            is_true = not participant.has_moved() and _is_old_kept(rotation)
    return "" if is_true else "This was decided, or is different by now."


def _is_undecided(participant: Participant, said_at: datetime | None, at: str) -> bool:
    """Return whether a person still has to decide about an objection of this moment."""
    is_ahead = participant.rotation.state in AWAITING_WINDOW
    return _is_moment(said_at, at) and participant.has_objection and is_ahead


def _is_moment(moment: datetime | None, text: str) -> bool:
    return moment is not None and moment == datetime.fromisoformat(text)


def _is_old_kept(rotation: Rotation) -> bool:
    """Return whether the old certificate is still to be retired."""
    return rotation.steps.filter(act=Act.RETIRE).exclude(state__in=SETTLED).exists()


def _check_too_late(message: Message, rotation: Rotation, now: datetime) -> str:
    start = rotation.window_start
    if (start.isoformat() if start else "") != message.facts.get("window"):
        return "The window has moved since this was written."
    is_late = rotation.old is not None and window_mail.comes_too_late(rotation, rotation.old, now)
    return "" if is_late else "The change no longer comes too late, or was called off."


def _check_submitted(message: Message, rotation: Rotation, now: datetime) -> str:
    uid = message.facts.get("handed_in")
    handed = HandedIn.objects.filter(uid=UUID(uid)).first() if uid else None
    if handed is None or handed.settled_at is None:
        return ""
    return "The certificate was accepted." if handed.accepted else "The certificate was refused."


ROTATION_CHECKS: Mapping[str, RotationCheck] = {
    "window_soon": _check_window_soon,
    "last_moment": _check_last_moment,
    "not_started": _check_not_started,
    "needs_attention": _check_needs_attention,
    "own_step_open": _check_own_step,
    "applied": _check_applied,
    "partner_response": _check_partner_response,
    "too_late": _check_too_late,
    "handed_in": _check_submitted,
}


def _check_reminder(message: Message, now: datetime) -> Withdrawal | None:
    """Check a reminder of expiring certificates; withdrawn, its thresholds are due again in the next run."""
    facts = message.facts
    if not facts:
        return None
    by_kind: dict[str, list[int]] = {}
    for kind, certificate, *_ in facts["certificates"]:
        by_kind.setdefault(kind, []).append(certificate)
    expiring = [
        one for kind, found in by_kind.items() for one in find_still_expiring(HOLDER_KINDS[kind], found, now=now)
    ]
    reader = Recipient(message.to_address, message.to_name, facts["zone"])
    current = reminder_facts(reader, expiring, now, zone=facts["zone"])
    if sorted(current["certificates"]) != sorted(facts["certificates"]):
        reason = "A certificate in it was replaced, or its rotation has changed, since this was written."
    elif now.astimezone(ZoneInfo(facts["zone"])).date().isoformat() != facts["day"]:
        reason = "It counts the days from an earlier day."
    else:
        return None
    sent = Notice.objects.filter(recipient=facts["recipient"], at=message.created_at)
    return Withdrawal(reason, follow_up=sent.delete)


def _check_early_evidence(message: Message, now: datetime) -> Withdrawal | None:
    uid = message.facts.get("sighting")
    sighting = Sighting.objects.select_related("partner", "participant__rotation").filter(uid=UUID(uid)).first()
    if sighting is None:
        return None
    if sighting.participant is not None:
        comparisons = sighting.participant.rotation.steps.filter(act=Act.CHECK)
        current = "compare" if comparisons.exclude(state__in=SETTLED).exists() else ""
    else:
        evidence = sighting.early_evidence() if sighting.dismissed_at is None else None
        current = evidence.kind if evidence else ""
    if current == message.facts["kind"]:
        return None
    return Withdrawal("What it asks for is done, or something else is to be done.", [sighting.partner])


def _check_system_differs(message: Message, now: datetime) -> Withdrawal | None:
    """Check a mail about AS2 systems that differ: it is withdrawn once none of them does, or all in another way."""
    told = {(uid, since) for uid, since in message.facts["differences"]}
    rows = StationBaseline.objects.differing().filter(uid__in=[UUID(uid) for uid, _ in told])
    if any((str(row.uid), row.differs_since.isoformat()) in told for row in rows if row.differs_since):
        return None
    return Withdrawal("What the AS2 system uses has changed since this was written.")


def _check_tls_certificate(message: Message, now: datetime) -> Withdrawal | None:
    """Check a mail about TLS certificates: it is withdrawn once all of them were replaced."""
    told = dict(message.facts["certificates"])
    current = TlsCertificate.objects.of_active_stations().filter(pk__in=told).values_list("pk", "sha256")
    if any(told[pk] == sha256 for pk, sha256 in current):
        return None
    return Withdrawal("The TLS certificate was replaced, or is no longer watched, since this was written.")


def _check_probe_failing(message: Message, now: datetime) -> Withdrawal | None:
    """Check a mail about regular test messages: it is withdrawn once the partners accept them again."""
    told = dict(message.facts["partnerships"])
    rows = Partnership.objects.without_accepted_probe().filter(pk__in=told)
    if any(row.probes_fail_since and told[row.pk] == row.probes_fail_since.isoformat() for row in rows):
        return None
    return Withdrawal("The test messages are accepted again, or are no longer sent, since this was written.")


OTHER_CHECKS: Mapping[str, Callable[[Message, datetime], Withdrawal | None]] = {
    "reminder": _check_reminder,
    "escalation": _check_reminder,
    "early_evidence": _check_early_evidence,
    "system_differs": _check_system_differs,
    "tls_certificate": _check_tls_certificate,
    "probe_failing": _check_probe_failing,
}
