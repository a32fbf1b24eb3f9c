"""Judge the traffic between stations by their journals: each message stored exactly once, each MDN good."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.peers import journal

Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Announced:
    """A span of time, in UTC, for which a plan announced that messages with a partner may fail."""

    partner: str
    starts: datetime
    ends: datetime

    def covers(self, parties: Collection[str], sent: datetime, answered: datetime) -> bool:
        """Return whether a message was under way within the span, if only for a part of the time."""
        return self.partner in parties and sent <= self.ends and answered >= self.starts


@dataclass
class Traffic:
    """What the journals show: what was wrong, what failed while that was announced, and how much was good.

    `good` counts the messages by sender and recipient, and `certificates` has the different pairs of certificates that
    they were signed with and encrypted to (SHA-256), in the order of their first use. `first_use` is when a message
    that was signed with a certificate was first sent, by sender, recipient and SHA-256.
    """

    wrong: list[str] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    good: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_use: dict[tuple[str, str, str], datetime] = field(default_factory=dict)
    certificates: defaultdict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


def judge_traffic(journals: Mapping[str, Entries], announced: Sequence[Announced] = ()) -> Traffic:
    """Return what the journals show, by the AS2 IDs of their stations, after all have fallen silent."""
    found = Traffic()
    stored = {as2_id: Counter(_tags(entries, journal.STORED)) for as2_id, entries in journals.items()}
    sent: set[str] = set()
    for sender, entries in journals.items():
        outcomes = {entry["tag"]: entry for entry in entries if entry["event"] == journal.OUTCOME}
        for entry in entries:
            if entry["event"] != journal.SENDING:
                continue
            tag, recipient = entry["tag"], entry["partner"]
            sent.add(tag)
            outcome = outcomes.get(tag, {})
            count = stored[recipient][tag]
            if complaint := _complaint(outcome, count):
                under_way = [datetime.fromisoformat(one["at"]) for one in (entry, outcome or entry)]
                excused = any(one.covers((sender, recipient), *under_way) for one in announced)
                line = f"{entry['at']} {tag} from {sender} to {recipient}: {complaint}"
                (found.announced if excused and count < 2 else found.wrong).append(line)
                continue
            found.good[sender, recipient] += 1
            used = outcome["signed_with"], outcome["encrypted_to"]
            found.first_use.setdefault((sender, recipient, used[0]), datetime.fromisoformat(entry["at"]))
            if used not in found.certificates[sender, recipient]:
                found.certificates[sender, recipient].append(used)
    for as2_id, entries in journals.items():
        found.wrong += [f"{tag} came to {as2_id} more than once." for tag in _tags(entries, journal.REPEATED)]
        found.wrong += [f"{tag} is stored by {as2_id}, and nobody sent it." for tag in stored[as2_id].keys() - sent]
    return found


def _tags(entries: Entries, event: str) -> list[str]:
    return [entry["tag"] for entry in entries if entry["event"] == event]


def _complaint(outcome: Mapping[str, Any], count: int) -> str:
    """Return what is wrong with a message by its outcome and by how often it is stored; empty if it is good."""
    verdict = outcome.get("verdict", "without an outcome")
    if count == 1 and verdict == "accepted":
        return ""
    where = {0: "not stored", 1: "stored"}.get(count, f"stored {count} times")
    return f"{where}, {verdict}. {outcome.get('disposition', '')} {outcome.get('sentence', '')}".strip()
