"""The history on a partner's page, from the audit trail.

The audit trail contains what a partner must not see: other partners' answers, our reasons and our people's names.
Therefore only the events listed here are shown, with texts of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q

from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry, Subject, object_reference
from as2certs.time_format import format_moment
from rotations.errors import PageOutdated
from rotations.execution.version_token import version_token
from rotations.models import Participant

#: Columns of a participant that it answers.
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
    "says_software",
    "says_keeps_both",
)
#: How many entries are shown, the newest first.
MAX_ENTRIES = 60


@dataclass(frozen=True)
class PartnerHistoryEntry:
    """An event: "Nora North" "said that it can't be done", with a quoted reason."""

    at: datetime
    who: str
    what: str
    quote: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.who} {self.what}" + (f": “{self.quote}”" if self.quote else "")


AuditValues = Mapping[str, Any]


def _confirmed_text(new: AuditValues) -> str:
    parts = []
    if new.get("installed", True):
        proof = ", and the fingerprint matches" if new.get("evidence") == "strong" else ""
        parts.append(f"that the certificate is there{proof}")
    if new.get("agreed"):
        parts.append("that the time is all right")
    return f"said {' and '.join(parts)}" if parts else "said something about it"


def _slots_text(new: AuditValues) -> str:
    can = new.get("can")
    return f"said when you can: {', '.join(can)}" if isinstance(can, list) else "said that none of the times suits"


#: Events about this partner alone, and their texts.
PARTNER_VERBS: Mapping[str, Callable[[AuditValues], str]] = {
    "participant.announced": lambda new: "told you of this change",
    "participant.opened": lambda new: "opened this page",
    "participant.downloaded": lambda new: "downloaded the certificate",
    "participant.confirmed": _confirmed_text,
    "participant.probe_accepted": lambda new: "found by a test message that you accept the new certificate",
    "participant.proposed": lambda new: f"proposed another time, {new.get('window', '')}",
    "participant.proposal_refused": lambda new: "stayed with the time as it is",
    "participant.declined": lambda new: "said that it can’t be done",
    "participant.switched": lambda new: f"said that you {new.get('what', 'switched')}",
    "participant.slots": _slots_text,
    "participant.capability_stated": lambda new: f"said of your system: {new.get('says', '')}",
    "participant.works": lambda new: "said that messages flow",
    "participant.does_not_work": lambda new: "said that something does not work",
    "contact.suggested": lambda new: f"named {new.get('name', 'somebody')} as the right person",
}
#: Events of the whole rotation, and their texts.
ROTATION_VERBS: Mapping[str, Callable[[AuditValues], str]] = {
    "rotation.postpone": lambda new: f"moved the time to {new.get('to', 'another one')}",
    "rotation.replanned": lambda new: "planned the steps anew",
    "rotation.slots_offered": lambda new: "offered times to choose from",
    "rotation.finish": lambda new: "changed over",
    "rotation.roll_back": lambda new: "began to go back to the old certificate",
    "rotation.rolled_back": lambda new: "went back to the old certificate",
    "rotation.cancel": lambda new: "called the change off",
    "rotation.close": lambda new: "completed the change",
}
#: Events that do not conflict with an answer given at the same time.
NON_CONFLICTING_VERBS = (
    "participant.announced",
    "participant.opened",
    "participant.downloaded",
    "contact.suggested",
)
#: Events whose reasons were sent to the partner.
VISIBLE_REASON_VERBS = ("participant.proposal_refused",)


def partner_history(
    participant: Participant, *, our_name: str, since: datetime | None = None
) -> list[PartnerHistoryEntry]:
    """Return the history of a participant, newest first; with ``since``, only conflicting events after that time."""
    kind, uid = object_reference(participant.partner)
    theirs = Subject.objects.filter(kind=kind, uid=uid).values("entry")
    shown = Q(verb__in=PARTNER_VERBS, pk__in=theirs) | Q(verb__in=ROTATION_VERBS)
    found = Entry.objects.about(participant.rotation).filter(shown)
    if since is not None:
        found = found.filter(at__gt=since).exclude(verb__in=NON_CONFLICTING_VERBS)
    return [_history_entry(entry, participant, our_name) for entry in found[:MAX_ENTRIES]]


def _history_entry(entry: Entry, participant: Participant, our_name: str) -> PartnerHistoryEntry:
    by_partner = entry.source == Entry.Source.PORTAL
    format_event = PARTNER_VERBS.get(entry.verb) or ROTATION_VERBS[entry.verb]
    what = format_event(entry.new)
    if not by_partner and what.startswith("said "):
        what = f"noted that you {what}"
    return PartnerHistoryEntry(
        at=entry.at,
        who=entry.actor_name.removesuffix(f" ({participant.partner})") if by_partner else our_name,
        what=what,
        quote=entry.reason if by_partner or entry.verb in VISIBLE_REASON_VERBS else "",
    )


def page_version(participant: Participant, *, now: datetime) -> str:
    """Return what a form carries: the version of what its reader answers about, and when (UTC) the page was opened."""
    return f"{_participant_version(participant)}.{int(now.timestamp() * 1_000_000)}"


def require_current_page(participant: Participant, seen: str) -> None:
    """Refuse an answer to a page that is outdated: two people may answer at once. Call it with the rotation locked.

    Raises PageOutdated, which says what has changed and by whom.
    """
    version, _, opened_at = seen.partition(".")
    if version == _participant_version(participant):
        return
    our_name = Installation.current().name
    newest = next(iter(partner_history(participant, our_name=our_name, since=_parse_microseconds(opened_at))), None)
    what = "something has changed here"
    if newest is not None:
        what = f"{newest.sentence} ({format_moment(newest.at, participant.partner.time_zone)})"
    raise PageOutdated(
        f"Since you opened this page, {what}. Nothing of yours was recorded yet: look at the page as it is now, and "
        "send it again if it still holds."
    )


def _participant_version(participant: Participant) -> str:
    rotation = participant.rotation
    return version_token(
        [
            [getattr(participant, name) for name in ANSWERS],
            [participant.starts, participant.ends],
            rotation.new and rotation.new.sha256,
            rotation.ended_at,
            list(rotation.slots.values_list("uid", flat=True)),
            list(participant.slot_answers.order_by("slot").values_list("slot__uid", "can")),
        ]
    )


def _parse_microseconds(text: str) -> datetime | None:
    """Return the moment (UTC) of so many microseconds since 1970; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(text))
