"""The mails about expiring certificates and about rotations: one short function each.

Each is queued once per event and reader: a second call with the same event queues nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, Max, OuterRef
from django.urls import reverse

from as2certs.accounts.models import Installation
from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.time_format import format_countdown, format_moment, format_relative_day
from identities.stations import AbstractCertificate
from rotations.models import HandedIn, Participant, Rotation, RotationQuerySet, Step, rehearsal
from rotations.notifications.expiry import OURS, ExpiringCertificate
from rotations.notifications.recipients import Recipient, recipients_of_rotations, unique_recipients
from rotations.notifications.thresholds import (
    PENDING_STATES,
    Outlook,
    format_expiry,
    rotation_outlook,
)
from rotations.planning.states import RotationState, StepState

log = logging.getLogger(__name__)

#: How long before a window its people are told, the longer one first, and what the mail's key calls it.
WINDOW_REMINDERS = ((timedelta(hours=24), "24h"), (timedelta(hours=1), "1h"))
#: With less than this left, a certificate's end is marked in colour.
URGENT_WITHIN = timedelta(days=7)
#: Rotations that will not do what they were set up for.
LATE_OUTLOOKS = (Outlook.TOO_LATE, Outlook.OVERDUE)
#: A mail with more certificates than this names the most urgent ones and counts the rest.
MAX_CERTIFICATES = 100
#: So many partners are named where some are not ready yet.
MAX_NOT_READY = 5
#: So many are named where one sentence, or a subject, holds them.
MAX_IN_SENTENCE = 3
#: A mail with more silent partners than this names the first ones and counts the rest.
MAX_SILENT = 40

Facts = list[tuple[str, str]]


def build_reminder(
    recipient: Recipient, certificates: Sequence[ExpiringCertificate], now: datetime
) -> Message:
    """Write (not queue) the mail that lists what is coming to its end, the most urgent first."""
    zone = recipient.time_zone
    lines = [
        {
            "certificate": certificate,
            "title": format_title(certificate.holder_name, certificate.is_test),
            "roles": " + ".join(certificate.roles),
            "expires": format_expiry(certificate.not_after, now, zone),
            "date": format_moment(certificate.not_after, zone, "day"),
            "moment": format_moment(certificate.not_after, zone),
            "utc": "" if zone == "UTC" else format_moment(certificate.not_after, "UTC", "offset"),
            "kind": "our station" if certificate.side is OURS else "partner",
            "is_urgent": certificate.not_after - now <= URGENT_WITHIN,
            "is_late": certificate.rotation is not None and certificate.rotation.outlook in LATE_OUTLOOKS,
            "note": _rotation_note(certificate, zone),
        }
        for certificate in certificates[:MAX_CERTIFICATES]
    ]
    return outbox.render_mail(
        "reminder",
        to=recipient.email,
        to_name=recipient.name,
        key=f"reminder:{now.isoformat()}:{recipient.key}",
        kind="reminder" if recipient.is_person else "escalation",
        context={
            "first": lines[0],
            "lines": lines,
            "others": len(certificates) - 1,
            "more": len(certificates) - len(lines),
            "list_url": settings.AS2CERTS_BASE_URL + reverse("certificate-list"),
        },
        now=now,
        time_zone=zone,
    )


def notify_window_soon(now: datetime) -> int:
    """Tell that a window starts in 24 hours, and again in one; of two that are due only the nearer is sent."""
    return sum(_notify_window_soon(rotation, now) for rotation in _with_related(_starting_soon(now)))


def _notify_window_soon(rotation: Rotation, now: datetime) -> int:
    start = rotation.window_start
    assert start is not None  # _soon asks for it
    notice = next(name for span, name in reversed(WINDOW_REMINDERS) if start - now <= span)
    outstanding = _format_not_ready(rotation)
    return _notify(
        "window_soon",
        rotation,
        event=f"window:{rotation.uid}:{start.isoformat()}:{notice}",
        now=now,
        say=lambda reader: {
            "countdown": format_countdown(start, now),
            "starts": format_moment(start, reader.time_zone),
            "outstanding": outstanding,
            "facts": [*_window_facts(rotation, reader), *_certificate_facts(rotation, reader, now)],
        },
    )


def notify_applied(rotations: Sequence[tuple[Rotation, bool]], at: datetime) -> int:
    """Tell that changes were made, and of each whether late; call it in the transaction that records them."""
    return _notify_all([_applied_event(rotation, late, at) for rotation, late in rotations], now=at)


def _applied_event(rotation: Rotation, late: bool, at: datetime) -> RotationEvent:
    return RotationEvent(
        "applied",
        rotation,
        event=f"applied:{rotation.uid}",
        say=lambda reader: {
            "late": late,
            "at": format_moment(at, reader.time_zone),
            "facts": [
                ("Changed", format_moment(at, reader.time_zone, "offset")),
                *_utc_fact("in UTC", at, reader),
                *_certificate_facts(rotation, reader, at),
                *(
                    [("Window", rotation.format_window(reader.time_zone))]
                    if late and rotation.window_start
                    else []
                ),
            ],
        },
    )


def notify_needs_attention(rotation: Rotation, step: Step | None, reason: str, at: datetime) -> int:
    """Tell that a rotation can't go on without a person; call it in the transaction that records it."""
    return _notify(
        "needs_attention",
        rotation,
        event=f"attention:{step.uid if step else rotation.uid}:{at.isoformat()}",
        now=at,
        say=lambda reader: {
            "reason": reason,
            "step": step,
            "facts": [
                *([("Step", step.title)] if step else []),
                ("Stopped", format_moment(at, reader.time_zone, "offset")),
                *_utc_fact("in UTC", at, reader),
                *([("Window", rotation.format_window(reader.time_zone))] if rotation.window_start else []),
                *_certificate_facts(rotation, reader, at),
            ],
        },
    )


def notify_approval_withdrawn(rotation: Rotation, at: datetime) -> int:
    """Tell that somebody changed what was approved, so that it waits for another approval; call it in that change."""
    why = f"The approval is withdrawn, since {rotation.withdrawn_because}."
    return notify_needs_attention(
        rotation, None, f"{why} Nothing further is made before somebody else approves it again.", at
    )


def notify_too_late(now: datetime) -> int:
    """Tell, once per rotation and window, that the old certificate ends before its rotation is made."""
    return sum(
        _notify_too_late(rotation, rotation.old, now)
        for rotation in _with_related(Rotation.objects.filter(state__in=PENDING_STATES))
        if rotation.old is not None and _comes_too_late(rotation, rotation.old, now)
    )


def _comes_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> bool:
    """Say so until the old certificate's end; from then on it is the reminders' matter."""
    expected = rotation_outlook(RotationState(rotation.state), rotation.window_end, old.not_after, now)
    return expected is Outlook.TOO_LATE and now <= old.not_after


def _notify_too_late(rotation: Rotation, old: AbstractCertificate, now: datetime) -> int:
    start, end, not_after = rotation.window_start, rotation.window_end, old.not_after
    return _notify(
        "too_late",
        rotation,
        event=f"too-late:{rotation.uid}:{start.isoformat() if start else 'none'}",
        now=now,
        say=lambda reader: {
            "expires": format_expiry(not_after, now, reader.time_zone),
            "date": format_moment(not_after, reader.time_zone, "day"),
            "why_late": explain_late(start, end, not_after, reader.time_zone),
            "facts": [*_certificate_facts(rotation, reader, now), *_window_facts(rotation, reader)],
        },
    )


def notify_partner_response(
    rotation: Rotation, participant: Participant, text: str, more: str, *, at: datetime
) -> int:
    """Tell what a partner said that somebody has to decide about: no, another time, that it does not work."""
    return _notify(
        "partner_said",
        rotation,
        event=f"said:{participant.uid}:{at.isoformat()}",
        now=at,
        say=lambda reader: {
            "text": text,
            "more": more,
            "partner": participant.partner.name,
            "facts": [
                *([("In its words", more)] if more else []),
                ("Said", format_moment(at, reader.time_zone, "offset")),
                *_window_facts(rotation, reader),
                *_certificate_facts(rotation, reader, at),
            ],
        },
    )


@dataclass(frozen=True)
class SilentPartner:
    """A partner that does not answer: whom to call (name, telephone), and what was tried."""

    partner: str
    standing: str
    people: Sequence[tuple[str, str]]
    tried: str
    obstacle: str

    @property
    def is_mute(self) -> bool:
        """Say whether no mail gets to anybody there."""
        return bool(self.obstacle)


def notify_silent_partners(
    rotation: Rotation,
    silences: Callable[[str], Sequence[SilentPartner]],
    *,
    event: str,
    higher: Recipient | None,
    at: datetime,
) -> int:
    """Tell our people, and ``higher``, which partners are silent; call it in the transaction that records it.

    ``silences`` returns them for a reader's zone, those that are new first.
    """
    start = rotation.window_start
    assert start is not None  # approved rotations have a window

    def say(reader: Recipient) -> dict[str, Any]:
        found = silences(reader.time_zone)
        return {
            "silences": found[:MAX_SILENT],
            "more": max(0, len(found) - MAX_SILENT),
            "who": format_names([silence.partner for silence in found]),
            "verb": _silent_verb(found),
            "is_open": start <= at,
            "countdown": format_countdown(start, at),
            "starts": format_moment(start, reader.time_zone),
            "facts": [*_window_facts(rotation, reader), *_certificate_facts(rotation, reader, at)],
        }

    return _notify("silent", rotation, event=f"silent:{event}", now=at, say=say, higher=higher)


def _silent_verb(silences: Sequence[SilentPartner]) -> str:
    if all(silence.is_mute for silence in silences):
        return "can’t be reached by mail"
    return "has not answered" if len(silences) == 1 else "have not answered"


def format_names(names: Sequence[str]) -> str:
    """Name some partners, however many there are: "Fabrikam, Northwind and 3 more"."""
    if len(names) > MAX_IN_SENTENCE:
        return f"{', '.join(names[: MAX_IN_SENTENCE - 1])} and {len(names) - MAX_IN_SENTENCE + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def notify_submitted(handed: HandedIn, rotation: Rotation, *, at: datetime) -> int:
    """Tell that a partner's new certificate came in; ``rotation`` is the one to it, or the one in its way."""
    new, old = handed.certificate, rotation.old
    return _notify(
        "handed_in",
        rotation,
        event=f"handed-in:{handed.uid}",
        now=at,
        say=lambda reader: {
            "handed": handed,
            "is_kept": handed.rotation_id is None,
            "button_url": settings.AS2CERTS_BASE_URL
            + (rotation if handed.accepted else handed).get_absolute_url(),
            "facts": [
                ("New", f"{new.short_name}, until {format_moment(new.not_after, reader.time_zone, 'day')}"),
                *(
                    [
                        (
                            "In use",
                            f"{old.short_name}, until {format_moment(old.not_after, reader.time_zone, 'day')}",
                        )
                    ]
                    if old
                    else []
                ),
                ("For", " + ".join(handed.roles)),
                ("Came from", handed.said_by),
                ("Came", format_moment(handed.at, reader.time_zone, "offset")),
            ],
        },
    )


def notify_window_missed(now: datetime) -> int:
    """Tell, once per window, that it ended without the change although no step failed.

    That is so where partners had not confirmed, or a person had to act and did not. A step that failed has had its
    own mail.
    """
    failed = Step.objects.filter(rotation=OuterRef("pk"), state=StepState.FAILED)
    missed = _with_related(Rotation.objects.overdue(now).filter(~Exists(failed)))
    return sum(
        _notify_window_missed(rotation, ended)
        for rotation in missed
        if (ended := _missed_window_end(rotation, now))
    )


def _missed_window_end(rotation: Rotation, now: datetime) -> datetime | None:
    """Return when the window that was missed ended; where we sign per partner, the last of those that were."""
    own = rotation.steps.alone().to_come().filter(latest_at__lte=now)
    last: datetime | None = own.aggregate(Max("latest_at"))["latest_at__max"]
    return last or rotation.window_end


def _notify_window_missed(rotation: Rotation, ended: datetime) -> int:
    outstanding = _format_not_ready(rotation)
    silent = f" Not ready by then: {outstanding}." if outstanding else ""
    if rotation.is_withdrawn:
        silent += (
            f" The approval was withdrawn, since {rotation.withdrawn_because}, and nobody approved it again."
        )
    if rotation.state == RotationState.EXCHANGING and (kept := rehearsal.rehearsal_obstacle(rotation)):
        silent += f" {kept}"
    return notify_needs_attention(
        rotation,
        None,
        f"The window ended and the change was not made.{silent} "
        "Agree a new window with the partners and postpone to it, or cancel.",
        at=ended,
    )


def _starting_soon(now: datetime) -> RotationQuerySet:
    horizon = now + max(span for span, _ in WINDOW_REMINDERS)
    return Rotation.objects.filter(
        state__in=(RotationState.EXCHANGING, RotationState.SCHEDULED),
        window_start__gt=now,
        window_start__lte=horizon,
    )


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
    """An event of a rotation that its people are told of, and whoever is ``higher``."""

    template: str
    rotation: Rotation
    event: str
    say: Callable[[Recipient], Mapping[str, Any]]
    higher: Recipient | None = None

    def readers(self, people: Mapping[int, list[Recipient]]) -> dict[str, Recipient]:
        """Return who is told, by the key of the mail; ``people`` are those of each rotation."""
        readers = unique_recipients([*people[self.rotation.pk], *([self.higher] if self.higher else [])])
        if not readers:
            log.warning(
                "Nobody can be told of the rotation of %s: give it an owner with an e-mail address.",
                self.rotation,
            )
        return {outbox.fit_key(f"{self.event}:{reader.key}"): reader for reader in readers}


def _notify(
    template: str,
    rotation: Rotation,
    *,
    event: str,
    now: datetime,
    say: Callable[[Recipient], Mapping[str, Any]],
    higher: Recipient | None = None,
) -> int:
    return _notify_all([RotationEvent(template, rotation, event, say, higher)], now=now)


def _notify_all(tellings: Sequence[RotationEvent], *, now: datetime) -> int:
    """Queue one mail per event and reader who has not been told of it, and return how many."""
    people = recipients_of_rotations([telling.rotation for telling in tellings])
    readers = [
        (telling, key, reader) for telling in tellings for key, reader in telling.readers(people).items()
    ]
    told = set(Message.objects.filter(key__in=[key for _, key, _ in readers]).values_list("key", flat=True))
    our_name = Installation.current().name
    messages = [
        outbox.render_mail(
            telling.template,
            to=reader.email,
            to_name=reader.name,
            key=key,
            kind=telling.template,
            context={"our_name": our_name, **_shared_context(telling.rotation), **telling.say(reader)},
            now=now,
            time_zone=reader.time_zone,
        )
        for telling, key, reader in readers
        if key not in told
    ]
    return len(outbox.store_messages(messages))


def _shared_context(rotation: Rotation) -> dict[str, Any]:
    return {
        "rotation": rotation,
        "holder": rotation.holder.name,
        "title": format_title(rotation.holder.name, rotation.holder.is_test),
        "is_test": rotation.holder.is_test,
        "button_url": settings.AS2CERTS_BASE_URL + rotation.get_absolute_url(),
    }


# Words and facts.


def explain_late(start: datetime | None, end: datetime | None, not_after: datetime, zone: str) -> str:
    """Say in one sentence why a rotation would come too late."""
    if start is None or end is None:
        return "No window is agreed yet."
    if start >= not_after:
        return f"Its window starts only after that: {format_moment(start, zone, 'offset')}."
    return f"Its window ends only after that: {format_moment(end, zone, 'offset')}."


def _rotation_note(certificate: ExpiringCertificate, zone: str) -> str:
    """Say what about the rotation of an expiring certificate has to be known."""
    rotation = certificate.rotation
    if rotation is None:
        return "No rotation is set up."
    if rotation.outlook is Outlook.TOO_LATE:
        late = explain_late(rotation.window_start, rotation.window_end, certificate.not_after, zone)
        return f"Its rotation would come too late. {late}"
    if rotation.outlook is Outlook.OVERDUE:
        return "The window of its rotation is over, and the change was not made."
    if rotation.state is RotationState.DRAFT:
        return "Its rotation is a draft: nobody has approved it yet."
    return "Its rotation has no window yet."


def format_title(name: str, is_test: bool) -> str:
    """Return a station's name, with TEST in front where that is what it is."""
    return f"TEST {name}" if is_test and not name.upper().startswith("TEST ") else name


def _format_not_ready(rotation: Rotation) -> str:
    """Name the partners of whom nothing was heard yet: "Northwind, Contoso and 3 more"."""
    silent = rotation.participants.filter(
        removed_reason="", waived_reason="", confirmed_at=None, agreed_at=None
    ).order_by("partner__name", "pk")
    names = list(silent.values_list("partner__name", flat=True))
    more = len(names) - MAX_NOT_READY
    return ", ".join(names[:MAX_NOT_READY]) + (f" and {more} more" if more > 0 else "")


def _certificate_facts(rotation: Rotation, reader: Recipient, now: datetime) -> Facts:
    old, new, zone = rotation.old, rotation.new, reader.time_zone
    facts = [("Roles", " + ".join(rotation.roles))]
    if old is not None:
        end = f"{format_moment(old.not_after, zone, 'day')} ({format_relative_day(old.not_after, now, zone)})"
        facts.append(("Old", f"{old.short_name}, until {end}"))
    if new is not None:
        facts.append(("New", f"{new.short_name}, until {format_moment(new.not_after, zone, 'day')}"))
    return facts


def _window_facts(rotation: Rotation, reader: Recipient) -> Facts:
    start = rotation.window_start
    if start is None:
        return [("Window", "not agreed yet")]
    facts = [("Window", rotation.format_window(reader.time_zone))]
    if reader.time_zone != "UTC":
        facts.append(("in UTC", rotation.format_window("UTC")))
    if rotation.window_zone and rotation.window_zone not in (reader.time_zone, "UTC"):
        facts.append(
            ("as agreed", f"{rotation.format_window(rotation.window_zone)} ({rotation.window_zone})")
        )
    return facts


def _utc_fact(label: str, at: datetime, reader: Recipient) -> Facts:
    return [] if reader.time_zone == "UTC" else [(label, format_moment(at, "UTC", "offset"))]
