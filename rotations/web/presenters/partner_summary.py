"""What the partners of a rotation have come to, in one line, and the ways to narrow their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotations.exchange.partner_status import PartnerStatus
from rotations.web.presenters.partner_table import PartnerRow

#: How many are what, in the order in which a sum tells it; the second word is for one.
STATUS_TEXTS: Mapping[PartnerStatus, tuple[str, str]] = {
    PartnerStatus.WORKS: ("confirm that it works", "confirms that it works"),
    PartnerStatus.MIGRATED: ("seen with the new one", "seen with the new one"),
    PartnerStatus.DOES_NOT_WORK: ("report trouble", "reports trouble"),
    PartnerStatus.USES_OLD: ("still use the old one", "still uses the old one"),
    PartnerStatus.DECLINED: ("said no", "said no"),
    PartnerStatus.OTHER_TIME: ("propose another time", "proposes another time"),
    PartnerStatus.UNREACHABLE: ("unreachable", "unreachable"),
    PartnerStatus.SILENT: ("silent", "silent"),
    PartnerStatus.INSTALLED_WEAK: ("only say that they have it", "only says that it has it"),
    PartnerStatus.INSTALLED: ("have it", "has it"),
    PartnerStatus.AGREED: ("agreed to the window", "agreed to the window"),
    PartnerStatus.DOWNLOADED: ("downloaded it", "downloaded it"),
    PartnerStatus.OPENED: ("opened their page", "opened its page"),
    PartnerStatus.ANNOUNCED: ("told", "told"),
    PartnerStatus.NOT_INFORMED: ("not told yet", "not told yet"),
    PartnerStatus.WAIVED: ("not waited for", "not waited for"),
}


def summarize_partners(rows: Sequence[PartnerRow]) -> str:
    """Say in one line what the partners have come to: "9 of 12 ready, 1 said no, 1 proposes another time, 1 silent"."""
    counts = Counter(row.standing for row in rows)
    parts = [f"{counts[PartnerStatus.READY]} of {len(rows)} ready"]
    parts += [
        f"{counts[s]} {several if counts[s] != 1 else one}"
        for s, (several, one) in STATUS_TEXTS.items()
        if counts[s]
    ]
    return ", ".join(parts)


@dataclass(frozen=True)
class StatusFilter:
    """A way to narrow the table: its name in the address, its words, and how many rows it shows."""

    name: str
    words: str
    count: int


#: Shows those whose word is still awaited.
AWAITED_FILTER = "awaited"


def status_filters(rows: Sequence[PartnerRow]) -> list[StatusFilter]:
    """Return what the table can be narrowed to: who is waited for, and each standing that there is."""
    counts = Counter(row.standing for row in rows)
    found = [
        StatusFilter("", "All", len(rows)),
        StatusFilter(AWAITED_FILTER, "Waited for", sum(row.is_awaited for row in rows)),
    ]
    order = (PartnerStatus.READY, *STATUS_TEXTS)
    found += [StatusFilter(s.name.lower(), s.value, counts[s]) for s in order if counts[s]]
    return [chip for chip in found if chip.count or not chip.name]


def filter_rows(rows: Sequence[PartnerRow], show: str) -> list[PartnerRow]:
    """Return the rows that a chip shows; all of them for a name that is none."""
    if show == AWAITED_FILTER:
        return [row for row in rows if row.is_awaited]
    if show.upper() in PartnerStatus.__members__:
        return [row for row in rows if row.standing is PartnerStatus[show.upper()]]
    return list(rows)
