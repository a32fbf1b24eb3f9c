"""Verify the whole trail, and report each entry that was changed, removed, added or moved.

Entries are read in the order of the chain, with constant memory. Each one is compared with the stored hash of the one
before, so that one forged entry does not make all later ones suspicious.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Subquery

from as2certs.audit import triggers
from as2certs.audit.chain import CHAIN_START, ChainLink, EntryData, compute_hash, read_in_batches
from as2certs.audit.models import Chain, Entry
from as2certs.audit.sealing import BROKEN_VERB, last_cut
from as2certs.audit.signing import TrailSigner, entry_message, head_message, trail_signer

#: A larger difference between the time of an entry and that of its seal is reported.
MAX_SEAL_DELAY = timedelta(hours=1)
#: Ranges of positions that are listed, and moved entries that are searched for.
MAX_LISTED = 20


@dataclass(frozen=True)
class TrailFinding:
    """A trace of tampering, with a sentence that names the entry or the position."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind.upper()}: {self.text}"


@dataclass
class PositionRanges:
    """Ascending positions, stored as their first ranges and their number."""

    spans: list[list[int]] = field(default_factory=list)
    count: int = 0

    def add(self, position: int) -> None:
        self.count += 1
        if self.spans and position == self.spans[-1][1] + 1:
            self.spans[-1][1] = position
        elif len(self.spans) < MAX_LISTED:
            self.spans.append([position, position])

    def __str__(self) -> str:
        held = sum(last - first + 1 for first, last in self.spans)
        texts = ", ".join(format_range(first, last) for first, last in self.spans)
        return texts if held == self.count else f"{texts} and {self.count - held} more"


def format_range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def describe_entry(entry: EntryData) -> str:
    """Describe an entry as it is now, on one line."""
    text = f"{entry['at']} {entry['actor_name']}: {entry['verb']} {entry['object_name']}"
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return f"position {entry['position']} (entry {entry['id']}, {shown})"


class ChainVerifier:
    """Verify entries in the order of the chain."""

    def __init__(
        self,
        *,
        start: ChainLink,
        signer: TrailSigner,
        head: ChainLink | None = None,
        find_position: Callable[[str], int | None] | None = None,
    ) -> None:
        """Start after ``start``; ``head`` is the recorded end. ``find_position`` returns the position of a hash."""
        self.end = start
        self.checked = 0
        self.unknown_keys: Counter[str] = Counter()
        self.delayed = PositionRanges()
        self._signer = signer
        self._head = head
        self._find_position = find_position
        self._searches = 0
        self._found_known_key = False
        self._previous_is_wrong = False

    def check(self, rows: Iterable[EntryData]) -> Iterator[TrailFinding]:
        """Verify the next entries."""
        for entry in rows:
            yield from self._order(entry)
            wrong = list(self._content(entry))
            yield from wrong or self._links(entry)
            if entry["verb"] == BROKEN_VERB:
                yield TrailFinding("broken", f"{describe_entry(entry)}: {entry['reason']}")
            self._note_delay(entry)
            self._previous_is_wrong = bool(wrong)
            self.end = ChainLink(entry["position"], entry["hash"])
            self.checked += 1

    def _order(self, entry: EntryData) -> Iterator[TrailFinding]:
        position, expected = entry["position"], self.end.position + 1
        if position > expected:
            yield TrailFinding("missing", f"{describe_removed(expected, position - 1)} before {describe_entry(entry)}.")
        elif position < expected:
            yield TrailFinding("moved", f"{describe_entry(entry)} stands behind position {self.end.position}.")
        if self._head and position > self._head.position:
            yield TrailFinding("added", f"{describe_entry(entry)} stands behind the end of the chain.")

    def _content(self, entry: EntryData) -> Iterator[TrailFinding]:
        if compute_hash(entry) != entry["hash"]:
            yield self._changed(entry)
        elif not self._is_signed(entry):
            yield TrailFinding(
                "forged",
                f"{describe_entry(entry)} fits its hash, but not its signature: somebody without the "
                "vault's key added it, "
                "or changed it together with its hash.",
            )

    def _links(self, entry: EntryData) -> Iterator[TrailFinding]:
        """Report an intact entry that does not follow the one before, or that is not the recorded end of the chain."""
        follows = entry["position"] == self.end.position + 1
        if follows and entry["previous"] != self.end.hash and not self._previous_is_wrong:
            yield TrailFinding(
                "changed",
                f"{describe_entry(entry)} does not follow on what is at position {self.end.position} now.",
            )
        if self._head and entry["position"] == self._head.position and entry["hash"] != self._head.hash:
            yield TrailFinding("changed", f"{describe_entry(entry)} is not the entry with which the chain ended.")

    def _changed(self, entry: EntryData) -> TrailFinding:
        """Report an entry that does not match its hash: as moved, if it does at the position after its predecessor."""
        if self._find_position and self._searches < MAX_LISTED:
            self._searches += 1
            before = 0 if entry["previous"] == CHAIN_START.hash else self._find_position(entry["previous"])
            if before is not None and compute_hash(entry | {"position": before + 1}) == entry["hash"]:
                return TrailFinding("moved", f"{describe_entry(entry)} stood at position {before + 1}.")
        return TrailFinding(
            "changed",
            f"{describe_entry(entry)} is not what was sealed: something in it, or an object it speaks of, was changed.",
        )

    def _is_signed(self, entry: EntryData) -> bool:
        """Return whether the signature of an entry is valid.

        The oldest entries may be signed with vault keys that were removed since. These are counted and accepted: each
        later hash, and so each later signature, covers them.
        """
        by = entry["signed_with"]
        if by and not self._signer.has_key(by):
            self.unknown_keys[by] += 1
            return not self._found_known_key
        self._found_known_key = True
        return self._signer.verify(entry_message(entry["hash"]), entry["signature"], by)

    def _note_delay(self, entry: EntryData) -> None:
        try:
            at, sealed_at = (datetime.fromisoformat(entry[column]) for column in ("at", "sealed_at"))
        except (TypeError, ValueError):
            return  # its hash does not match either
        if abs(sealed_at - at) > MAX_SEAL_DELAY:
            self.delayed.add(entry["position"])


def describe_removed(first: int, last: int) -> str:
    """Describe a range of missing positions."""
    if first == last:
        return f"position {first}: an entry was removed"
    return f"positions {format_range(first, last)}: {last - first + 1} entries were removed"


def read_head() -> tuple[Chain, int]:
    """Return the head of the chain and the last position that has an entry, both from one query."""
    last = Entry.objects.sealed().order_by("-position").values_list("position", flat=True)[:1]
    chain = Chain.objects.filter(pk=1).annotate(last=Subquery(last)).first()
    if chain is not None:
        return chain, chain.last or 0
    return Chain(), last.first() or 0


def verify_chain(verifier: ChainVerifier, chain: Chain, last: int) -> Iterator[TrailFinding]:
    """Verify from the start of ``verifier`` to the end; ``chain`` and ``last`` come from ``read_head``."""
    for rows in read_in_batches(Entry.objects.all(), after=verifier.end.position, upto=max(last, chain.position)):
        yield from verifier.check(rows)
    if verifier.end.position < chain.position:
        yield TrailFinding(
            "missing",
            f"{describe_removed(verifier.end.position + 1, chain.position)} at the end of the chain.",
        )
    yield from _check_head_signature(chain, last)
    if chain.cut_position and last_cut() != ChainLink(chain.cut_position, chain.cut_hash):
        yield TrailFinding(
            "missing",
            f"{describe_removed(1, chain.cut_position)}, and no entry of the trail tells that this was meant to be.",
        )
    for trigger in triggers.missing_triggers(connection):
        yield TrailFinding(
            "broken", f"the database's trigger {trigger} is not there. `manage.py migrate` puts it up again."
        )


def _check_head_signature(chain: Chain, last: int) -> Iterator[TrailFinding]:
    signer = trail_signer()
    if signer.verify(head_message(chain), chain.signature, chain.signed_with) or not (chain.position or last):
        return
    if chain.signed_with and not signer.has_key(chain.signed_with):
        yield TrailFinding(
            "broken",
            f"the end of the chain is signed with the key {chain.signed_with}, which comes from none of "
            "AS2CERTS_VAULT_KEYS. If they were changed, put the old one back behind the new one.",
        )
    else:
        yield TrailFinding("broken", "what is said to be the end of the chain is not what was signed.")


def find_position(hash: str) -> int | None:
    """Return the position of the entry with this hash. Reads the whole trail."""
    return Entry.objects.sealed().filter(hash=hash).values_list("position", flat=True).first()


def check_noted_heads(heads: Iterable[ChainLink], chain: Chain) -> Iterator[TrailFinding]:
    """Compare heads that were noted earlier with the entries; skip those before the cut."""
    for noted in heads:
        if noted.position < chain.cut_position:
            continue
        entries = Entry.objects.sealed().filter(position=noted.position)
        hash = entries.values_list("hash", flat=True).first()
        if noted.position == chain.cut_position:
            hash = chain.cut_hash
        if hash is None:
            yield TrailFinding("missing", f"position {noted.position}: the chain ended there once, and is shorter now.")
        elif hash != noted.hash:
            yield TrailFinding(
                "changed",
                f"position {noted.position}: another entry was there when this end of the chain was noted.",
            )
