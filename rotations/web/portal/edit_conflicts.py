"""Notice that what a partner answers about has changed since its page was opened: two may answer at once.

Each form carries a stamp of what its reader saw. Nothing is taken over silently: whoever sends an outdated form is told
what changed and who said it, and may send it again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

from as2certs.accounts.models import Installation
from as2certs.time_format import format_moment
from rotations.errors import PageOutdated
from rotations.models import Participant
from rotations.web.portal import history

#: What a participant answers, in columns.
ANSWERS = (
    "evidence",
    "fingerprint",
    "agreed_at",
    "confirmed_at",
    "declined_at",
    "declined_reason",
    "proposed_start",
    "proposed_end",
    "proposed_note",
    "works",
    "works_note",
    "says_holds",
)


def stamp(participant: Participant, *, now: datetime) -> str:
    """Return what a form carries along: a digest of what is answered about, and when (UTC) it was looked at."""
    return f"{_digest(participant)}.{int(now.timestamp() * 1_000_000)}"


def must_be_as_seen(participant: Participant, seen: str) -> None:
    """Refuse an answer to a page that is outdated. Call it with the rotation locked. Raises PageOutdated."""
    digest, _, looked_at = seen.partition(".")
    if digest == _digest(participant):
        return
    our_name = Installation.current().name
    newest = next(
        iter(history.partner_history(participant, our_name=our_name, since=_moment(looked_at))), None
    )
    what = "something has changed here"
    if newest is not None:
        what = f"{newest.sentence} ({format_moment(newest.at, participant.partner.time_zone)})"
    raise PageOutdated(
        f"Since you opened this page, {what}. Nothing of yours was recorded yet: look at the page as it is now, and "
        "send it again if it still holds."
    )


def _moment(microseconds: str) -> datetime | None:
    """Return when a page was looked at; None where the stamp does not say it, or not sensibly."""
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 16):
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _digest(participant: Participant) -> str:
    rotation = participant.rotation
    slots = participant.slot_answers.order_by("slot").values_list("slot__uid", "can")
    facts = [
        [str(getattr(participant, name)) for name in ANSWERS],
        [str(participant.starts), str(participant.ends)],
        rotation.new.sha256 if rotation.new else "",
        str(rotation.ended_at),
        [str(uid) for uid in rotation.slots.values_list("uid", flat=True)],
        [[str(uid), can] for uid, can in slots],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
