"""Mails to our own people about the changes that the runner made: one mail to each for all that were due at one moment.

The runner records each change in the transaction that makes it; the mails are queued once nothing else is due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from as2certs.mail import outbox
from as2certs.mail.models import Message
from as2certs.rows import insert_rows
from as2certs.time_format import format_moment
from rotations.models import AppliedChange, Rotation
from rotations.notifications.outcome_mail import applied_event
from rotations.notifications.recipients import Recipient, recipients_of_rotations
from rotations.notifications.rotation_mail import notify
from rotations.notifications.texts import format_names, format_title, utc_fact
from rotations.planning.states import RotationState

#: One transaction queues the mails about so many changes.
MAX_TOGETHER = 10_000
#: A mail names so many changes; the list of rotations has the others.
MAX_LISTED = 50
#: Mails wait so long for what else is due: a slow AS2 system must not keep back those about the others.
MAX_WAIT = timedelta(minutes=1)
#: In these states a change was taken back.
TAKEN_BACK = (RotationState.ROLLING_BACK, RotationState.CANCELLED)


def record_applied(rotations: Iterable[tuple[Rotation, bool]], at: datetime) -> None:
    """Record changes that were made at a moment (UTC), and whether late, in the transaction that makes them."""
    insert_rows(AppliedChange, ("rotation_id", "late"), [(r.pk, late) for r, late in rotations], same={"at": at})


def oldest_unreported() -> datetime | None:
    """Return when the first change was made of which people have still to be notified (UTC)."""
    return AppliedChange.objects.order_by("pk").values_list("at", flat=True).first()


@transaction.atomic
def notify_recorded(now: datetime) -> int:
    """Notify people of the recorded changes, and forget these; return how many mails were queued.

    A second process finds the rows locked, and leaves them to the first.
    """
    rows = AppliedChange.objects.select_for_update(skip_locked=True, of=("self",)).order_by("pk")
    changes = list(rows.select_related("rotation__identity", "rotation__partner")[:MAX_TOGETHER])
    made = {change.rotation_id: change for change in changes if change.rotation.state not in TAKEN_BACK}
    readers: dict[str, Recipient] = {}
    by_reader: dict[str, list[AppliedChange]] = defaultdict(list)
    people = recipients_of_rotations([change.rotation for change in made.values()])
    for change in made.values():
        for reader in people[change.rotation_id]:
            if change.only_to in ("", reader.key):
                readers[reader.key] = reader
                by_reader[reader.key].append(change)
    several = {key: found for key, found in by_reader.items() if len(found) > 1}
    mails = [_mail(readers[key], found, now) for key, found in several.items()]
    alone = {found[0].pk for found in by_reader.values() if len(found) == 1}
    events = [
        applied_event(change.rotation, change.late, change.at, except_to=several)
        for change in made.values()
        if change.pk in alone or not people[change.rotation_id]  # which the log then tells
    ]
    queued = notify(*events, now=now) if events else 0
    AppliedChange.objects.filter(pk__in=[change.pk for change in changes]).delete()
    return queued + len(outbox.queue(mails))


def _mail(reader: Recipient, changes: Sequence[AppliedChange], now: datetime) -> outbox.Mail:
    """Return the mail about several changes to one reader."""
    zone = reader.time_zone
    holders = [change.rotation.holder for change in changes]
    first, last = (format_moment(limit(c.at for c in changes), zone, "offset") for limit in (min, max))
    names = format_names([holder.name for holder in holders])
    uids = sorted(str(change.rotation.uid) for change in changes)
    listed = [
        (format_title(holder.name, holder.is_test), format_moment(change.at, zone, "exact"), change.late)
        for holder, change in zip(holders[:MAX_LISTED], changes, strict=False)
    ]
    moments = "".join(change.at.isoformat() for change in changes)
    return outbox.Mail(
        template="applied_together",
        to=reader.email,
        to_name=reader.name,
        key=f"applied-together:{sha256(''.join([*uids, moments]).encode()).hexdigest()}:{reader.key}",
        kind="applied",
        context={
            "holder": names,
            "title": format_title(names, all(holder.is_test for holder in holders)),
            "is_test": all(holder.is_test for holder in holders),
            "count": len(changes),
            "late": sum(change.late for change in changes),
            "at": format_moment(changes[-1].at, zone),
            "changes": listed,
            "more": len(changes) - len(listed),
            "facts": [
                ("Changed", first if first == last else f"{first} to {last}"),
                *utc_fact("in UTC", changes[-1].at, reader),
            ],
            "button_url": settings.AS2CERTS_BASE_URL + reverse("rotation-list") + "?state=applied",
        },
        facts={
            "changes": [[str(c.rotation.uid), c.at.isoformat(), c.late] for c in changes],
            "recipient": reader.key,
        },
        now=now,
        time_zone=zone,
    )


def taken_back(message: Message) -> list[Rotation]:
    """Return which of the changes in a mail about several were taken back since it was written."""
    uids = [uid for uid, _, _ in message.facts["changes"]]
    return list(Rotation.objects.filter(uid__in=uids, state__in=TAKEN_BACK).select_related("identity", "partner"))


def record_again(message: Message) -> None:
    """Record the changes of a mail that is withdrawn for its reader alone: a true mail about the rest follows."""
    changes = message.facts["changes"]
    rotations = Rotation.objects.filter(uid__in=[uid for uid, _, _ in changes]).exclude(state__in=TAKEN_BACK)
    keys = {str(uid): pk for uid, pk in rotations.values_list("uid", "pk")}
    AppliedChange.objects.bulk_create(
        AppliedChange(
            rotation_id=keys[uid], at=datetime.fromisoformat(at), late=late, only_to=message.facts["recipient"]
        )
        for uid, at, late in changes
        if uid in keys
    )
