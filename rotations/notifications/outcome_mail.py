"""Mails to our own people about what was made, what failed, and what somebody decided."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.time_format import format_moment
from identities.certificates.single_import import WARNINGS_ACCEPTED
from identities.models import IdentityCertificate
from partners.models import PartnerCertificate
from rotations.models import Participant, Rotation, Step
from rotations.notifications.recipients import Recipient, recipients_of
from rotations.notifications.rotation_mail import RotationEvent, notify
from rotations.notifications.texts import (
    certificate_facts,
    format_certificate,
    format_names,
    format_title,
    in_use_facts,
    utc_fact,
    window_facts,
)

log = logging.getLogger(__name__)


ImportedCertificate = IdentityCertificate | PartnerCertificate


#: Imports despite warnings are reported within this time, also after the reminders were down.
FORCED_IMPORTS_PERIOD = timedelta(days=2)


#: A mail lists so many certificates that were imported despite warnings.
MAX_IMPORTED = 20


def notify_applied(rotations: Sequence[tuple[Rotation, bool]], at: datetime) -> int:
    """Notify people of changes that somebody made, and whether late, in the caller's transaction.

    What the runner makes is in ``applied_mail``.
    """
    return notify(*(applied_event(rotation, late, at) for rotation, late in rotations), now=at)


def applied_event(rotation: Rotation, late: bool, at: datetime, *, except_to: Collection[str] = ()) -> RotationEvent:
    """Return the event of a change that was made at a moment (UTC), told to all but some addresses (lower case)."""
    return RotationEvent(
        "applied",
        rotation,
        event=f"applied:{rotation.uid}",
        except_to=except_to,
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


def notify_needs_attention(
    rotation: Rotation, step: Step | None, reason: str, at: datetime, *, facts: Mapping[str, Any] | None = None
) -> int:
    """Notify people that a rotation needs a person to continue, in the caller's transaction.

    ``facts`` are what can change before the mail leaves, see ``mail_checks``; without them, the failed step.
    """
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
        facts=facts or ({"step": str(step.uid)} if step else {}),
    )
    return notify(event, now=at)


def notify_own_step_open(rotation: Rotation, step: Step, reason: str, *, at: datetime) -> int:
    """Notify people, once for each step, that a step of our own is open and nothing else is waited for."""
    opens = rotation.window_start if rotation.window_start is not None and at < rotation.window_start else None
    event = RotationEvent(
        "own_step_open",
        rotation,
        event=f"own_step:{step.uid}",
        variables=lambda reader: {
            "reason": reason,
            "step": step,
            "facts": [("Step", step.title), *certificate_facts(rotation, reader, at)],
        },
        facts={"step": str(step.uid), "opens": opens.isoformat() if opens else ""},
    )
    return notify(event, now=at)


def notify_approval_withdrawn(rotation: Rotation, at: datetime) -> int:
    """Notify people that the approval was withdrawn by a change, in the caller's transaction."""
    why = f"The approval is withdrawn, since {rotation.withdrawn_because}."
    text = f"{why} Nothing further is made before somebody else approves it again."
    facts = {"withdrawn_because": rotation.withdrawn_because}
    return notify_needs_attention(rotation, None, text, at, facts=facts)


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
    return notify(event, now=at)


def name_of(by: Actor) -> str:
    """Return who did something, as mails name them."""
    return "AS2 Certs" if by.source == Entry.Source.TASK else by.name


def notify_cancelled(rotation: Rotation, reason: str, *, by: Actor, at: datetime) -> int:
    """Notify people, except the one who did it, that a change was cancelled, in the caller's transaction."""
    who = name_of(by)
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
    return notify(event, now=at)


@dataclass(frozen=True)
class WayBack:
    """A rotation, or one ``participant`` of it alone, goes back to the old certificate: who decided that, why and when.

    ``tasks`` are what is left to do for that, in order.
    """

    rotation: Rotation
    reason: str
    who: str
    done_by: User | None
    at: datetime
    tasks: Sequence[str]
    participant: Participant | None = None


def notify_way_back(way: WayBack, *, now: datetime) -> int:
    """Notify people, except the one who decided it, of a way back, in the caller's transaction."""
    rotation, participant, at = way.rotation, way.participant, way.at
    event = RotationEvent(
        "way_back",
        rotation,
        event=f"way-back:{participant.uid if participant else rotation.uid}:{at.isoformat()}",
        variables=lambda reader: {
            "who": way.who,
            "reason": way.reason,
            "partner": participant.partner.name if participant else "",
            "tasks": way.tasks,
            "facts": [
                ("Decided", format_moment(at, reader.time_zone, "offset")),
                *utc_fact("in UTC", at, reader),
                *certificate_facts(rotation, reader, now),
            ],
        },
        facts={
            "participant": str(participant.uid) if participant else "",
            "reason": way.reason,
            "who": way.who,
            "done_by": way.done_by.pk if way.done_by else None,
            "at": at.isoformat(),
            "tasks": list(way.tasks),
        },
        done_by=way.done_by,
    )
    return notify(event, now=now)


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
