"""Mails to our own people about rotations: one short function for each event.

Each event is queued once per recipient: a second call with the same event queues nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import Exists, Max, OuterRef

from as2certs.accounts.models import Installation, User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.time_format import format_countdown, format_exact_moment, format_moment
from identities.certificates.single_import import WARNINGS_ACCEPTED
from identities.models import Identity, IdentityCertificate
from identities.stations import AbstractCertificate
from partners.models import Partner, PartnerCertificate
from rotations.models import AtEnd, HandedIn, Participant, Rotation, RotationQuerySet, Sighting, Step
from rotations.models.evidence import EarlyEvidence
from rotations.models.readiness import own_open_titles
from rotations.notifications.recipients import Recipient, recipients_of, recipients_of_rotations, unique_recipients
from rotations.notifications.texts import (
    SilentPartner,
    certificate_facts,
    explain_kept_back,
    explain_late,
    format_certificate,
    format_names,
    format_not_ready,
    format_title,
    in_use_facts,
    last_moment_facts,
    readiness_facts,
    silent_verb,
    utc_fact,
    window_facts,
)
from rotations.notifications.thresholds import (
    PENDING_STATES,
    Outlook,
    format_expiry,
    rotation_outlook,
)
from rotations.planning.change import Act
from rotations.planning.partner_actions import STARTED_BY
from rotations.planning.states import AWAITING_WINDOW, RotationState, StepState

log = logging.getLogger(__name__)

ImportedCertificate = IdentityCertificate | PartnerCertificate

#: How long before a window people are notified, the longest time first, and its name in the key of the mail.
WINDOW_REMINDERS = ((timedelta(hours=24), "24h"), (timedelta(hours=1), "1h"))
#: How long before the last moment of a phased change people are notified of who has not changed.
LAST_MOMENT_NOTICE = timedelta(hours=24)
#: Imports despite warnings are reported within this time, also after the reminders were down.
FORCED_IMPORTS_PERIOD = timedelta(days=2)
#: A mail lists so many certificates that were imported despite warnings.
MAX_IMPORTED = 20
#: A mail lists so many silent partners and counts the others.
MAX_SILENT = 40


def notify_window_soon(now: datetime) -> int:
    """Notify people 24 hours and one hour before a window; if both are due, only the later one is sent."""
    return sum(_notify_window_soon(rotation, now) for rotation in _with_related(_starting_soon(now)))


def _notify_window_soon(rotation: Rotation, now: datetime) -> int:
    start = rotation.window_start
    assert start is not None  # _soon asks for it
    notice = next(name for span, name in reversed(WINDOW_REMINDERS) if start - now <= span)
    waits_for = _cached_obstacles(rotation)
    moment = rotation.describe_moment(rotation.steps.filter(act=Act.CUT_OVER)) if rotation.is_fuzzy else ""
    event = RotationEvent(
        "window_soon",
        rotation,
        event=f"window:{rotation.uid}:{start.isoformat()}:{notice}",
        variables=lambda reader: {
            "countdown": format_countdown(start, now),
            "starts": format_exact_moment(start, reader.time_zone),
            **waits_for(),
            "facts": [
                *window_facts(rotation, reader),
                *([("Moment", moment)] if moment else []),
                *certificate_facts(rotation, reader, now),
            ],
        },
        facts=lambda: readiness_facts(rotation),
    )
    return _notify(event, now=now)


def notify_last_moment_soon(now: datetime) -> int:
    """Notify people, 24 hours before the last moment of a phased change, of the partners that have not changed."""
    ending = Rotation.objects.filter(
        state__in=AWAITING_WINDOW,
        at_end=AtEnd.PHASED,
        emergency_reason="",
        window_start__lte=now,
        window_end__gt=now,
        window_end__lte=now + LAST_MOMENT_NOTICE,
    )
    return sum(_notify_last_moment_soon(rotation, now) for rotation in _with_related(ending))


def _notify_last_moment_soon(rotation: Rotation, now: datetime) -> int:
    last, said = rotation.window_end, last_moment_facts(rotation)
    assert last is not None  # the query asks for it
    if not said["unchanged"]:
        return 0
    event = RotationEvent(
        "last_moment",
        rotation,
        event=f"last_moment:{rotation.uid}:{last.isoformat()}",
        variables=lambda reader: {
            **said,
            "countdown": format_countdown(last, now),
            "last": format_exact_moment(last, reader.time_zone),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, now)],
        },
        facts=said,
    )
    return _notify(event, now=now)


def notify_not_started(now: datetime) -> int:
    """Notify people, once per window, of changes that have not started minutes after their moment, and what is open."""
    waiting = Step.objects.filter(rotation=OuterRef("pk"), act=Act.CUT_OVER, state=StepState.WAITING, participant=None)
    rotations = Rotation.objects.filter(
        Exists(waiting),
        state__in=PENDING_STATES,
        at_end="",
        window_start__lte=now - STARTED_BY,
        window_end__gt=now,
    ).exclude(state=RotationState.DRAFT)
    return sum(_notify_not_started(rotation, now) for rotation in _with_related(rotations))


def _notify_not_started(rotation: Rotation, now: datetime) -> int:
    assert rotation.window_start is not None  # the query asks for it
    waits_for = _cached_obstacles(rotation)
    event = RotationEvent(
        "not_started",
        rotation,
        event=f"not_started:{rotation.uid}:{rotation.window_start.isoformat()}",
        variables=lambda reader: {
            **waits_for(),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, now)],
        },
        facts=lambda: readiness_facts(rotation),
    )
    return _notify(event, now=now)


def _cached_obstacles(rotation: Rotation) -> Callable[[], Mapping[str, Any]]:
    """Return a function that queries, once, what a change waits for: most runs find the mail queued before."""
    return cache(
        lambda: {
            "outstanding": format_not_ready(rotation),
            "own_steps": own_open_titles(rotation),
            "kept_back": explain_kept_back(rotation),
        }
    )


def notify_applied(rotations: Sequence[tuple[Rotation, bool]], at: datetime) -> int:
    """Notify people of changes that were made, and whether late, in the caller's transaction."""
    return _notify(*(_applied_event(rotation, late, at) for rotation, late in rotations), now=at)


def _applied_event(rotation: Rotation, late: bool, at: datetime) -> RotationEvent:
    return RotationEvent(
        "applied",
        rotation,
        event=f"applied:{rotation.uid}",
        variables=lambda reader: {
            "late": late,
            "at": format_moment(at, reader.time_zone),
            "facts": [
                ("Changed", format_moment(at, reader.time_zone, "offset")),
                *utc_fact("in UTC", at, reader),
                *certificate_facts(rotation, reader, at),
                *([("Window", rotation.format_window(reader.time_zone))] if late and rotation.window_start else []),
            ],
        },
    )


def notify_needs_attention(rotation: Rotation, step: Step | None, reason: str, at: datetime) -> int:
    """Notify people that a rotation needs a person to continue, in the caller's transaction."""
    return _notify_attention(rotation, step, reason, at, facts={"step": str(step.uid)} if step else {})


def _notify_attention(
    rotation: Rotation, step: Step | None, reason: str, at: datetime, *, facts: Mapping[str, Any]
) -> int:
    event = RotationEvent(
        "needs_attention",
        rotation,
        event=f"attention:{step.uid if step else rotation.uid}:{at.isoformat()}",
        variables=lambda reader: {
            "reason": reason,
            "step": step,
            "facts": [
                *([("Step", step.title)] if step else []),
                ("Stopped", format_moment(at, reader.time_zone, "offset")),
                *utc_fact("in UTC", at, reader),
                *([("Window", rotation.format_window(reader.time_zone))] if rotation.window_start else []),
                *certificate_facts(rotation, reader, at),
            ],
        },
        facts=facts,
    )
    return _notify(event, now=at)


def notify_forced(rotation: Rotation, decision: str, reason: str, *, by: Actor, at: datetime) -> int:
    """Notify people of a decision that overrides a check, in the caller's transaction.

    ``decision`` follows the person's name in a sentence, such as "decided to go on without Northwind". What the
    application decides by itself has its own mails.
    """
    if by.source == Entry.Source.TASK:
        return 0
    event = RotationEvent(
        "forced",
        rotation,
        event=f"forced:{rotation.uid}:{at.isoformat()}:{decision}",
        variables=lambda reader: {
            "decision": f"{by.name} {decision}",
            "reason": reason,
            "facts": [
                ("Decided", format_moment(at, reader.time_zone, "offset")),
                *utc_fact("in UTC", at, reader),
                *window_facts(rotation, reader),
                *certificate_facts(rotation, reader, at),
            ],
        },
    )
    return _notify(event, now=at)


def notify_cancelled(rotation: Rotation, reason: str, *, by: Actor, at: datetime) -> int:
    """Notify people, except the one who did it, that a change was cancelled, in the caller's transaction."""
    who = "AS2 Certs" if by.source == Entry.Source.TASK else by.name
    event = RotationEvent(
        "cancelled",
        rotation,
        event=f"cancelled:{rotation.uid}",
        variables=lambda reader: {
            "who": who,
            "reason": reason,
            "facts": [
                ("Cancelled", format_moment(at, reader.time_zone, "offset")),
                *utc_fact("in UTC", at, reader),
                *in_use_facts(rotation, reader),
                *certificate_facts(rotation, reader, at),
            ],
        },
        done_by=by.user,
    )
    return _notify(event, now=at)


def notify_forced_imports(now: datetime) -> int:
    """Notify people of certificates that somebody imported despite warnings, by one mail for each import."""
    entries = Entry.objects.filter(verb=WARNINGS_ACCEPTED, at__gt=now - FORCED_IMPORTS_PERIOD)
    imports: dict[tuple[datetime, str], list[Entry]] = defaultdict(list)
    for entry in entries.exclude(source=Entry.Source.TASK).order_by("id"):
        imports[entry.at, entry.actor_name].append(entry)
    return sum(_notify_forced_import(together, now) for together in imports.values())


def _notify_forced_import(entries: Sequence[Entry], now: datetime) -> int:
    """Notify the owners of the certificates of one import, each of those of its own stations."""
    by_reader: dict[str, tuple[Recipient, list[tuple[ImportedCertificate, Entry]]]] = {}
    for model in (IdentityCertificate, PartnerCertificate):
        rows = {str(entry.object_uid): entry for entry in entries if entry.object_kind == model._meta.label_lower}
        if not rows:
            continue
        stored: Any = model.objects.light().filter(uid__in=list(rows)).select_related(model.HOLDER)
        certificates = list(stored.order_by("pk"))
        people = recipients_of(model.holder_model(), [one.holder.pk for one in certificates])
        for certificate in certificates:
            readers = people.of(certificate.holder.pk)
            if not readers:
                log.warning(
                    "Nobody can be told of what was imported for %s: give it an owner with an e-mail address.",
                    certificate.holder,
                )
            for reader in readers:
                _, theirs = by_reader.setdefault(reader.key, (reader, []))
                theirs.append((certificate, rows[str(certificate.uid)]))
    return len(outbox.queue([_forced_import_mail(reader, theirs, now) for reader, theirs in by_reader.values()]))


def _forced_import_mail(
    reader: Recipient, imported: Sequence[tuple[ImportedCertificate, Entry]], now: datetime
) -> outbox.Mail:
    certificate, entry = imported[0]
    holders = list(dict.fromkeys(one.holder for one, _ in imported))
    is_test, several = all(holder.is_test for holder in holders), len(imported) > 1
    names = format_names([holder.name for holder in holders])
    reasons = [
        f"{one.holder.name}, {one.short_name}: {why.reason}" if several else why.reason
        for one, why in imported[:MAX_IMPORTED]
    ]
    if len(imported) > MAX_IMPORTED:
        reasons.append(f"{len(imported) - MAX_IMPORTED} more are in the trail.")
    what = f"{len(imported)} certificates" if several else "a certificate"
    return outbox.Mail(
        template="forced",
        to=reader.email,
        to_name=reader.name,
        key=f"forced-import:{entry.object_uid}:{entry.at.isoformat()}:{reader.key}",
        kind="forced",
        context={
            "holder": names,
            "title": format_title(names, is_test),
            "is_test": is_test,
            "decision": f"{entry.actor_name} imported {what} despite warnings",
            "reason": "\n".join(reasons),
            "button_url": settings.AS2CERTS_BASE_URL + certificate.get_absolute_url(),
            "several": several,
            "facts": [
                ("Imported", format_moment(entry.at, reader.time_zone, "offset")),
                *utc_fact("in UTC", entry.at, reader),
                *([] if several else [("New", format_certificate(certificate, reader.time_zone))]),
            ],
        },
        now=now,
        time_zone=reader.time_zone,
    )


def notify_approval_withdrawn(rotation: Rotation, at: datetime) -> int:
    """Notify people that the approval was withdrawn by a change, in the caller's transaction."""
    why = f"The approval is withdrawn, since {rotation.withdrawn_because}."
    return notify_needs_attention(
        rotation, None, f"{why} Nothing further is made before somebody else approves it again.", at
    )


def notify_too_late(now: datetime) -> int:
    """Notify people, once per rotation and window, that the old certificate expires before the change."""
    return sum(
        _notify_too_late(rotation, rotation.old, now)
        for rotation in _with_related(Rotation.objects.filter(state__in=PENDING_STATES))
        if rotation.old is not None and comes_too_late(rotation, rotation.old, now)
    )


def comes_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> bool:
    """Return whether the change comes too late; False once the certificate has expired, which reminders report."""
    expected = rotation_outlook(RotationState(rotation.state), rotation.window_end, old.not_after, now)
    return expected is Outlook.TOO_LATE and now <= old.not_after


def _notify_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> int:
    start, end, not_after = rotation.window_start, rotation.window_end, old.not_after
    event = RotationEvent(
        "too_late",
        rotation,
        event=f"too-late:{rotation.uid}:{start.isoformat() if start else 'none'}",
        variables=lambda reader: {
            "expires": format_expiry(not_after, now, reader.time_zone),
            "date": format_moment(not_after, reader.time_zone, "day"),
            "why_late": explain_late(start, end, not_after, reader.time_zone),
            "facts": [*certificate_facts(rotation, reader, now), *window_facts(rotation, reader)],
        },
        facts={"window": start.isoformat() if start else ""},
    )
    return _notify(event, now=now)


def notify_partner_response(
    participant: Participant, text: str, words: str = "", *, at: datetime, advice: str = ""
) -> int:
    """Notify people of what a partner did or said, and that they have to decide about.

    ``words`` are the partner's own, and quoted as such. ``advice`` is ours: what it means, and what to do.
    """
    rotation = participant.rotation
    event = RotationEvent(
        "partner_response",
        rotation,
        event=f"said:{participant.uid}:{at.isoformat()}",
        variables=lambda reader: {
            "text": text,
            "advice": advice,
            "partner": participant.partner.name,
            "facts": [
                *([("In its words", words)] if words else []),
                ("Said" if words else "Noticed", format_moment(at, reader.time_zone, "offset")),
                *window_facts(rotation, reader),
                *certificate_facts(rotation, reader, at),
            ],
        },
    )
    return _notify(event, now=at)


def notify_own_step_open(rotation: Rotation, step: Step, reason: str, *, at: datetime) -> int:
    """Notify people, once for each step, that a step of our own is open and nothing else is waited for."""
    event = RotationEvent(
        "own_step_open",
        rotation,
        event=f"own_step:{step.uid}",
        variables=lambda reader: {
            "reason": reason,
            "step": step,
            "facts": [("Step", step.title), *certificate_facts(rotation, reader, at)],
        },
        facts={"step": str(step.uid)},
    )
    return _notify(event, now=at)


def notify_silent_partners(
    rotation: Rotation,
    silences: Callable[[str], Sequence[SilentPartner]],
    *,
    silent: Sequence[Participant],
    event: str,
    escalate_to: Recipient | None,
    at: datetime,
) -> int:
    """Notify people, and ``escalate_to``, of silent partners, in the caller's transaction.

    ``silences`` returns the partners for a reader's time zone, the new ones first; ``silent`` are its participants.
    """
    start, last = rotation.window_start, rotation.window_end
    assert start is not None  # approved rotations have a window

    def variables(reader: Recipient) -> dict[str, Any]:
        found = silences(reader.time_zone)
        return {
            "silences": found[:MAX_SILENT],
            "more": max(0, len(found) - MAX_SILENT),
            "who": format_names([silence.partner for silence in found]),
            "verb": silent_verb(found),
            "until": format_exact_moment(last, reader.time_zone) if rotation.is_phased and last else "",
            "is_open": start <= at,
            "countdown": format_countdown(start, at),
            "starts": format_exact_moment(start, reader.time_zone),
            "facts": [*window_facts(rotation, reader), *certificate_facts(rotation, reader, at)],
        }

    facts = {"window": start.isoformat(), "silent": [str(participant.uid) for participant in silent]}
    return _notify(RotationEvent("silent", rotation, f"silent:{event}", variables, escalate_to, facts), now=at)


def notify_submitted(handed: HandedIn, rotation: Rotation, *, at: datetime) -> int:
    """Notify people that a partner submitted a certificate; ``rotation`` uses it, or prevents its use."""
    new, old = handed.certificate, rotation.old
    event = RotationEvent(
        "handed_in",
        rotation,
        event=f"handed-in:{handed.uid}",
        variables=lambda reader: {
            "handed": handed,
            "is_kept": handed.rotation_id is None,
            "button_url": settings.AS2CERTS_BASE_URL + (rotation if handed.accepted else handed).get_absolute_url(),
            "facts": [
                ("New", format_certificate(new, reader.time_zone)),
                *([("In use", format_certificate(old, reader.time_zone))] if old else []),
                ("For", " + ".join(handed.roles)),
                ("Came from", handed.submitted_by),
                ("Came", format_moment(handed.at, reader.time_zone, "offset")),
            ],
        },
        facts={} if handed.accepted else {"handed_in": str(handed.uid)},
    )
    return _notify(event, now=at)


def notify_early_evidence(sighting: Sighting, evidence: EarlyEvidence, *, at: datetime) -> int:
    """Notify people, once per certificate and reason, of a message with a certificate that is not in service here."""
    partner, certificate = sighting.partner, sighting.certificate
    people = recipients_of(Partner, [partner.pk]).of(partner.pk)
    if isinstance(certificate, IdentityCertificate):
        people = [*people, *recipients_of(Identity, [certificate.identity_id]).of(certificate.identity_id)]
    if not people:
        log.warning("Nobody can be told of a message of %s: give it an owner with an e-mail address.", partner)
    mails = [
        outbox.Mail(
            template="early_evidence",
            to=reader.email,
            to_name=reader.name,
            key=f"early:{partner.uid}:{sighting.use}:{sighting.serial}:{sighting.sha256}:{evidence.kind}:{reader.key}",
            kind="early_evidence",
            context={
                "holder": partner.name,
                "title": format_title(partner.name, partner.is_test),
                "is_test": partner.is_test,
                "evidence": evidence,
                "button_url": settings.AS2CERTS_BASE_URL + evidence.url,
                "facts": [
                    ("Seen", sighting.certificate_text),
                    *([("Here", format_certificate(certificate, reader.time_zone))] if certificate else []),
                    ("Message", format_moment(sighting.at, reader.time_zone, "offset")),
                    *utc_fact("in UTC", sighting.at, reader),
                    ("Noted by", sighting.noted_by),
                ],
            },
            facts={"sighting": str(sighting.uid), "kind": evidence.kind},
            now=at,
            time_zone=reader.time_zone,
        )
        for reader in unique_recipients(people)
    ]
    return len(outbox.queue(mails))


def notify_window_missed(now: datetime) -> int:
    """Notify people, once per window, that it ended without the change although no step failed.

    Partners had not confirmed, or a person did not act. A failed step has its own mail.
    """
    failed = Step.objects.filter(rotation=OuterRef("pk"), state=StepState.FAILED)
    missed = _with_related(Rotation.objects.overdue(now).filter(~Exists(failed)))
    return sum(
        _notify_window_missed(rotation, ended) for rotation in missed if (ended := _missed_window_end(rotation, now))
    )


def _missed_window_end(rotation: Rotation, now: datetime) -> datetime | None:
    """Return when the missed window ended; where we sign per partner, the last of the missed ones."""
    own = rotation.steps.for_one_partner().unsettled().filter(latest_at__lte=now)
    last: datetime | None = own.aggregate(Max("latest_at"))["latest_at__max"]
    return last or rotation.window_end


def _notify_window_missed(rotation: Rotation, ended: datetime) -> int:
    outstanding = format_not_ready(rotation)
    silent = f" Not ready by then: {outstanding.names}." if outstanding else ""
    if kept_back := explain_kept_back(rotation):
        silent += f" {kept_back}"
    text = (
        f"The window ended and the change was not made.{silent} "
        "Agree a new window with the partners and postpone to it, or cancel."
    )
    if rotation.is_phased:
        text = (
            f"The time in which each partner changes when it is ready is over, and the change is not complete.{silent} "
            "Both certificates stay in use. Call the partners that are left: give them more time by postponing, or a "
            "moment of their own, or go on without them."
        )
    return _notify_attention(rotation, None, text, at=ended, facts={"missed": True})


def _starting_soon(now: datetime) -> RotationQuerySet:
    horizon = now + max(span for span, _ in WINDOW_REMINDERS)
    return Rotation.objects.filter(
        state__in=(RotationState.EXCHANGING, RotationState.SCHEDULED),
        window_start__gt=now,
        window_start__lte=horizon,
    ).exclude(at_end=AtEnd.PHASED)  # nothing starts at the start where each partner changes when it is ready


def _with_related(rotations: RotationQuerySet) -> Iterable[Rotation]:
    return rotations.order_by("window_start", "pk").select_related(
        "identity",
        "partner",
        "set_up_by",
        "old_identity_certificate",
        "new_identity_certificate",
        "old_partner_certificate",
        "new_partner_certificate",
    )


@dataclass(frozen=True)
class RotationEvent:
    """An event of a rotation about which its people, and ``escalate_to`` if given, are notified."""

    template: str
    rotation: Rotation
    event: str
    variables: Callable[[Recipient], Mapping[str, Any]]
    escalate_to: Recipient | None = None
    #: What the mails say that can change before they leave, see ``mail_checks``. A function is called for new mails
    #: only.
    facts: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    #: Who is not notified, since they did it themselves.
    done_by: User | None = None

    def recipients(self, by_rotation: Mapping[int, list[Recipient]]) -> dict[str, Recipient]:
        """Return who is notified, by the key of the mail."""
        extra = [self.escalate_to] if self.escalate_to else []
        recipients = unique_recipients([*by_rotation[self.rotation.pk], *extra])
        if not recipients:
            log.warning(
                "Nobody can be told of the rotation of %s: give it an owner with an e-mail address.",
                self.rotation,
            )
        their_own = Recipient.of(self.done_by).key if self.done_by else None
        return {outbox.fit_key(f"{self.event}:{one.key}"): one for one in recipients if one.key != their_own}


def _notify(*events: RotationEvent, now: datetime) -> int:
    """Queue one mail per event and recipient, unless it was queued before; return how many were queued."""
    by_rotation = recipients_of_rotations([event.rotation for event in events])
    wanted = [(event, key, one) for event in events for key, one in event.recipients(by_rotation).items()]
    keys = [key for _, key, _ in wanted]
    existing = set(Message.objects.filter(key__in=keys).values_list("key", flat=True))
    our_name = Installation.current().name
    mails = [
        outbox.Mail(
            template=event.template,
            to=recipient.email,
            to_name=recipient.name,
            key=key,
            kind=event.template,
            context={"our_name": our_name, **_shared_context(event.rotation), **event.variables(recipient)},
            facts={"rotation": str(event.rotation.uid), **(event.facts() if callable(event.facts) else event.facts)},
            now=now,
            time_zone=recipient.time_zone,
        )
        for event, key, recipient in wanted
        if key not in existing
    ]
    return len(outbox.queue(mails))


def _shared_context(rotation: Rotation) -> dict[str, Any]:
    return {
        "rotation": rotation,
        "holder": rotation.holder.name,
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "is_test": rotation.holder.is_test,
        "button_url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
    }
