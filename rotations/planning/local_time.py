"""Moments and windows as mails tell them: on a named clock, with everything a reader elsewhere needs.

Everything taken is aware; ``zone`` is an IANA name.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from rotations.models import Participant, Rotation
from rotations.planning import windows


@lru_cache(maxsize=2048)  # the mails of a change tell the same few moments again and again
def moment(at: datetime, zone: str) -> str:
    """Tell a moment to the minute: "Tue 24 Nov 2026, 22:00 CST (UTC−06:00)"."""
    return windows.in_zones(at.replace(second=0, microsecond=0), [zone])[0][1]


def brief(at: datetime, zone: str) -> str:
    """Tell a moment without the zone's offset where the zone has letters: "Tue 24 Nov 2026, 22:00 CST"."""
    whole = moment(at, zone)
    short, _, offset = whole.partition(" (")
    return short if offset and short.split()[-1].isalpha() else whole


def span(start: datetime, end: datetime, zone: str) -> str:
    """Tell a window: "Tue 24 Nov 2026, 22:00 to 23:00 CST (UTC−06:00)", both days where it ends on another."""
    begins, ends = moment(start, zone), moment(end, zone)
    first, _, clock = begins.partition(", ")
    last, _, last_clock = ends.partition(", ")
    time, _, letters = clock.partition(" ")
    if not ends.endswith(f" {letters}"):
        return f"{begins} to {ends if first != last else last_clock}"  # the clocks change in between
    return f"{first}, {time} to {last_clock if first == last else ends}"


def span_of(whose: Rotation | Participant, zone: str) -> str:
    """Tell the window of a rotation, or of a participant, which may have one of its own; there is one."""
    if isinstance(whose, Rotation):
        start, end = whose.window_start, whose.window_end
    else:
        start, end = whose.starts, whose.ends
    assert start  # asked for by the callers
    assert end  # a window has both
    return span(start, end, zone)


def day(at: datetime, zone: str) -> str:
    """Return the day of a moment on a zone's calendar: "13 Dec 2026"."""
    whole = moment(at, zone).partition(", ")[0]
    return whole.partition(" ")[2]
