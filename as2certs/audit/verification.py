"""Look at every entry of the trail again, and name each that was changed, removed, added or moved.

One row of the chain after the other, in memory of a constant size. What is wrong with one entry is said of that one:
those after it are held against what it says its hash is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Subquery

from as2certs.audit import chain as chained
from as2certs.audit import signing, triggers
from as2certs.audit.chain import CHAIN_START, ChainLink, EntryData
from as2certs.audit.models import Chain, Entry
from as2certs.audit.sealing import BROKEN_VERB, last_cut
from as2certs.audit.signing import TrailSigner

#: An entry that says it happened longer before it was sealed than this, or after, is worth a look.
MAX_SEAL_DELAY = timedelta(hours=1)
#: Of ranges of positions so many are listed; of entries that were moved so many are looked for.
MAX_LISTED = 20


@dataclass(frozen=True)
class TrailFinding:
    """Something that was done to the trail, in a sentence that names the entry or the place."""

    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind.upper()}: {self.words}"


@dataclass
class PositionRanges:
    """Ascending positions, held as the first few ranges and a sum."""

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
        told = ", ".join(format_range(first, last) for first, last in self.spans)
        return told if held == self.count else f"{told} and {self.count - held} more"


def format_range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def describe_entry(told: EntryData) -> str:
    """Name an entry as it is now, on one line whatever it holds."""
    what = f"{told['at']} {told['actor_name']}: {told['verb']} {told['object_name']}"
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in what)
    return f"position {told['position']} (entry {told['id']}, {shown})"


class ChainVerifier:
    """Goes along the chain, and says what is wrong with each entry it passes."""

    def __init__(
        self,
        *,
        start: ChainLink,
        signet: TrailSigner,
        head: ChainLink | None = None,
        place_of: Callable[[str], int | None] | None = None,
    ) -> None:
        """Begin behind ``start``; the chain is said to end at ``head``. ``place_of`` finds where a hash stands."""
        self.end = start
        self.checked = 0
        self.strangers: Counter[str] = Counter()
        self.apart = PositionRanges()
        self._signet = signet
        self._head = head
        self._place_of = place_of
        self._looked_for = 0
        self._met_our_own = False
        self._in_doubt = False  # the entry before was found to be wrong, so it is no measure for this one

    def go(self, rows: Iterable[EntryData]) -> Iterator[TrailFinding]:
        """Pass these entries."""
        for told in rows:
            yield from self._order(told)
            wrong = list(self._content(told))
            yield from wrong or self._neighbours(told)
            if told["verb"] == BROKEN_VERB:
                yield TrailFinding("broken", f"{describe_entry(told)}: {told['reason']}")
            self._note_apart(told)
            self._in_doubt = bool(wrong)
            self.end = ChainLink(told["position"], told["hash"])
            self.checked += 1

    def _order(self, told: EntryData) -> Iterator[TrailFinding]:
        position, expected = told["position"], self.end.position + 1
        if position > expected:
            yield TrailFinding(
                "missing", f"{describe_removed(expected, position - 1)} before {describe_entry(told)}."
            )
        elif position < expected:
            yield TrailFinding("moved", f"{describe_entry(told)} stands behind position {self.end.position}.")
        if self._head and position > self._head.position:
            yield TrailFinding("added", f"{describe_entry(told)} stands behind the end of the chain.")

    def _content(self, told: EntryData) -> Iterator[TrailFinding]:
        if chained.compute_hash(told) != told["hash"]:
            yield self._changed(told)
        elif not self._is_signed(told):
            yield TrailFinding(
                "forged",
                f"{describe_entry(told)} fits its hash, but not its signature: somebody without the "
                "vault's key added it, "
                "or changed it together with its hash.",
            )

    def _neighbours(self, told: EntryData) -> Iterator[TrailFinding]:
        """Say that an entry, sound in itself, does not fit to what is before it, or to the end of the chain."""
        follows = told["position"] == self.end.position + 1
        if follows and told["previous"] != self.end.hash and not self._in_doubt:
            yield TrailFinding(
                "changed",
                f"{describe_entry(told)} does not follow on what is at position {self.end.position} now.",
            )
        if self._head and told["position"] == self._head.position and told["hash"] != self._head.hash:
            yield TrailFinding(
                "changed", f"{describe_entry(told)} is not the entry with which the chain ended."
            )

    def _changed(self, told: EntryData) -> TrailFinding:
        """Say that an entry does not give its hash; and whether it would at the place where it stood."""
        if self._place_of and self._looked_for < MAX_LISTED:
            self._looked_for += 1
            before = 0 if told["previous"] == CHAIN_START.hash else self._place_of(told["previous"])
            if before is not None and chained.compute_hash(told | {"position": before + 1}) == told["hash"]:
                return TrailFinding("moved", f"{describe_entry(told)} stood at position {before + 1}.")
        return TrailFinding(
            "changed",
            f"{describe_entry(told)} is not what was sealed: something in it, or an object it speaks of, was changed.",
        )

    def _is_signed(self, told: EntryData) -> bool:
        """Say whether a signature fits.

        Keys that were taken away since signed the oldest entries. Those are counted: the signatures of later ones
        vouch for them, as each hash covers all before it.
        """
        by = told["signed_with"]
        if by and not self._signet.knows(by):
            self.strangers[by] += 1
            return not self._met_our_own
        self._met_our_own = True
        return self._signet.vouches(signing.entry_message(told["hash"]), told["signature"], by)

    def _note_apart(self, told: EntryData) -> None:
        try:
            at, sealed_at = (datetime.fromisoformat(told[column]) for column in ("at", "sealed_at"))
        except (TypeError, ValueError):
            return  # no moment: it does not give its hash either
        if abs(sealed_at - at) > MAX_SEAL_DELAY:
            self.apart.add(told["position"])


def describe_removed(first: int, last: int) -> str:
    """Say which positions are not there."""
    if first == last:
        return f"position {first}: an entry was removed"
    return f"positions {format_range(first, last)}: {last - first + 1} entries were removed"


def read_head() -> tuple[Chain, int]:
    """Return the head of the chain, and the last position at which there is an entry, as of one moment."""
    last = Entry.objects.sealed().order_by("-position").values_list("position", flat=True)[:1]
    chain = Chain.objects.filter(pk=1).annotate(last=Subquery(last)).first()
    if chain is not None:
        return chain, chain.last or 0
    return Chain(), last.first() or 0


def verify_chain(walk: ChainVerifier, chain: Chain, last: int) -> Iterator[TrailFinding]:
    """Walk from where ``walk`` begins to the end; ``chain`` and ``last`` are what `head` returned."""
    for rows in chained.read_in_batches(
        Entry.objects.all(), after=walk.end.position, upto=max(last, chain.position)
    ):
        yield from walk.go(rows)
    if walk.end.position < chain.position:
        yield TrailFinding(
            "missing", f"{describe_removed(walk.end.position + 1, chain.position)} at the end of the chain."
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
    signet = signing.trail_signer()
    if signet.vouches(signing.head_message(chain), chain.signature, chain.signed_with) or not (
        chain.position or last
    ):
        return
    if chain.signed_with and not signet.knows(chain.signed_with):
        yield TrailFinding(
            "broken",
            f"the end of the chain is signed with the key {chain.signed_with}, which comes from none of "
            "AS2CERTS_VAULT_KEYS. If they were changed, put the old one back behind the new one.",
        )
    else:
        yield TrailFinding("broken", "what is said to be the end of the chain is not what was signed.")


def find_position(hash: str) -> int | None:
    """Return the position of the entry with this hash; reads the whole trail, so only where something was found."""
    return Entry.objects.sealed().filter(hash=hash).values_list("position", flat=True).first()


def check_noted_heads(heads: Iterable[ChainLink], chain: Chain) -> Iterator[TrailFinding]:
    """Hold ends of the chain that were noted earlier against what is there; those that were cut off are left out."""
    for noted in heads:
        if noted.position < chain.cut_position:
            continue
        entries = Entry.objects.sealed().filter(position=noted.position)
        hash = entries.values_list("hash", flat=True).first()
        if noted.position == chain.cut_position:
            hash = chain.cut_hash
        if hash is None:
            yield TrailFinding(
                "missing", f"position {noted.position}: the chain ended there once, and is shorter now."
            )
        elif hash != noted.hash:
            yield TrailFinding(
                "changed",
                f"position {noted.position}: another entry was there when this end of the chain was noted.",
            )
