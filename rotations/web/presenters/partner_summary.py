"""What the partners of a rotation have come to, in one line, and the ways to narrow their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotations.exchange.partner_status import Standing
from rotations.web.presenters.partner_table import Row

#: How many are what, in the order in which a sum tells it; the second word is for one.
SUMS: Mapping[Standing, tuple[str, str]] = {
    Standing.WORKS: ("confirm that it works", "confirms that it works"),
    Standing.MIGRATED: ("seen with the new one", "seen with the new one"),
    Standing.DOES_NOT_WORK: ("report trouble", "reports trouble"),
    Standing.STRAGGLES: ("still use the old one", "still uses the old one"),
    Standing.DECLINED: ("said no", "said no"),
    Standing.OTHER_TIME: ("propose another time", "proposes another time"),
    Standing.UNREACHABLE: ("unreachable", "unreachable"),
    Standing.SILENT: ("silent", "silent"),
    Standing.INSTALLED_WEAK: ("only say that they have it", "only says that it has it"),
    Standing.INSTALLED: ("have it", "has it"),
    Standing.AGREED: ("agreed to the window", "agreed to the window"),
    Standing.DOWNLOADED: ("downloaded it", "downloaded it"),
    Standing.OPENED: ("opened their page", "opened its page"),
    Standing.ANNOUNCED: ("told", "told"),
    Standing.NOT_TOLD: ("not told yet", "not told yet"),
    Standing.WAIVED: ("not waited for", "not waited for"),
}


def summary(rows: Sequence[Row]) -> str:
    """Say in one line what the partners have come to: "9 of 12 ready, 1 said no, 1 proposes another time, 1 silent"."""
    counts = Counter(row.standing for row in rows)
    parts = [f"{counts[Standing.READY]} of {len(rows)} ready"]
    parts += [
        f"{counts[s]} {several if counts[s] != 1 else one}" for s, (several, one) in SUMS.items() if counts[s]
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class Chip:
    """A way to narrow the table: its name in the address, its words, and how many rows it shows."""

    name: str
    words: str
    count: int


#: Shows those whose word is still awaited.
AWAITED = "awaited"


def chips(rows: Sequence[Row]) -> list[Chip]:
    """Return what the table can be narrowed to: who is waited for, and each standing that there is."""
    counts = Counter(row.standing for row in rows)
    found = [Chip("", "All", len(rows)), Chip(AWAITED, "Waited for", sum(row.is_awaited for row in rows))]
    order = (Standing.READY, *SUMS)
    found += [Chip(s.name.lower(), s.value, counts[s]) for s in order if counts[s]]
    return [chip for chip in found if chip.count or not chip.name]


def narrowed(rows: Sequence[Row], show: str) -> list[Row]:
    """Return the rows that a chip shows; all of them for a name that is none."""
    if show == AWAITED:
        return [row for row in rows if row.is_awaited]
    if show.upper() in Standing.__members__:
        return [row for row in rows if row.standing is Standing[show.upper()]]
    return list(rows)
