"""Windows and the zones in which they are agreed: local times, clock changes, and findings about a window.

Returned datetimes are aware and in UTC unless stated otherwise.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from as2certs.time_format import (
    format_local_clock,
    format_local_date,
    format_local_time,
    format_local_window,
    format_near_moment,
)
from rotations.errors import AmbiguousTime, Candidate, NonexistentTime, UnknownZone, WindowError

SHORT_WINDOW = timedelta(minutes=5)
LONG_WINDOW = timedelta(days=14)
EXPIRY_MARGIN = timedelta(days=7)
"""Recommended time between the end of a window and the expiry of the old certificate, for a second attempt."""
MAX_EXTENSIONS = 3
"""How often a window without a fixed moment is extended at its end before a person decides."""
EXTENSION_MARGIN = timedelta(hours=24)
"""Time between the end of an extended window and the expiry of the old certificate, in which a person can decide."""
PHASED_MARGIN = EXTENSION_MARGIN
"""Time between the last moment of a phased change and the expiry of the old certificate: for what is left then."""
PARTNER_NOTICE = timedelta(days=3)
"""Recommended time between the announcement of a window and its start."""

OUTSIDE_OLD_VALIDITY = ("after_old_ends", "old_ends_inside")
"""Codes of findings about a window that the old certificate does not outlast."""


def load_zone(name: str) -> ZoneInfo:
    """Return the IANA time zone of this name, such as "America/Chicago". Raises UnknownZone."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UnknownZone(f"There is no time zone {name!r}. Choose one such as Europe/Berlin.") from error


def to_utc(local: datetime, zone: str, *, fold: int | None = None) -> datetime:
    """Return a naive local time in UTC.

    `fold` chooses the earlier (0) or the later (1) of a time that occurs twice; else it has no effect. Raises
    NonexistentTime, AmbiguousTime (only without `fold`) and UnknownZone.
    """
    if local.tzinfo is not None:
        raise WindowError(
            f"{local.isoformat()} already carries a zone; give the time as the clock on the wall shows it."
        )
    info = load_zone(zone)
    earlier, later = (local.replace(tzinfo=info, fold=side).astimezone(UTC) for side in (0, 1))
    if earlier == later:
        return earlier
    # PEP 495: in a gap, fold 0 uses the offset from before the jump, and so yields a time after it.
    if earlier > later:
        jump = _offset_change(later, earlier, info)
        before = jump - timedelta(seconds=1)
        jump_from = before.astimezone(info).replace(tzinfo=None) + timedelta(seconds=1)
        jump_to = jump.astimezone(info).replace(tzinfo=None)
        landing = (
            format_local_time(jump_to)
            if jump_to.date() == jump_from.date()
            else f"{format_local_date(jump_to)}, {format_local_time(jump_to)}"
        )
        raise NonexistentTime(
            f"{format_local_date(local)}, {format_local_time(local)} does not exist in {zone}: "
            f"the clocks jump from {format_local_time(jump_from)} to {landing}. Choose {landing} or later.",
            jump_from=jump_from,
            jump_to=jump_to,
        )
    if fold is not None:
        return later if fold else earlier
    first, second = _candidate(earlier, 0, info), _candidate(later, 1, info)
    raise AmbiguousTime(
        f"{format_local_date(local)}, {format_local_time(local)} comes twice in {zone}, because the clocks go back. "
        f"Say which one: {first.text}, or {second.text}.",
        (first, second),
    )


def _offset_change(before: datetime, after: datetime, info: ZoneInfo) -> datetime:
    """Return the first second after `before` at which the zone's offset is that of `after`."""
    target = after.astimezone(info).utcoffset()
    low, high = 0, int((after - before).total_seconds())
    while low < high:
        middle = (low + high) // 2
        if (before + timedelta(seconds=middle)).astimezone(info).utcoffset() == target:
            high = middle
        else:
            low = middle + 1
    return (before + timedelta(seconds=low)).replace(microsecond=0)


def _candidate(at: datetime, fold: int, info: ZoneInfo) -> Candidate:
    local = at.astimezone(info)
    return Candidate(at, fold, local.utcoffset() or timedelta(0), local.tzname() or "", format_local_clock(local))


def same_night_end(start: datetime, end: time, zone: str) -> Candidate | None:
    """Return the end that follows its start though the clock shows an earlier time, as the clocks go back between them.

    `start` is a naive local time, `end` the time of day until which the window lasts: from 01:45 CDT until 01:30 CST.
    None for an end that is later by the clock too, and for one that can only lie on another day.
    """
    local = datetime.combine(start.date(), end)
    if local >= start:
        return None
    try:
        to_utc(local, zone)
    except AmbiguousTime as error:
        again = error.candidates[1]
        return again if to_utc(start, zone, fold=0) < again.at else None
    except NonexistentTime:
        return None
    return None


@dataclass(frozen=True)
class Window:
    """A window: `start` and `end` (aware, stored in UTC) and the IANA zone in which it was agreed.

    Both are whole seconds, the least that people can enter and compare; fractions are cut off.
    """

    start: datetime
    end: datetime
    zone: str

    def __post_init__(self) -> None:
        """Refuse naive datetimes and unknown zones, and convert to UTC and whole seconds."""
        load_zone(self.zone)
        for name in ("start", "end"):
            moment: datetime = getattr(self, name)
            if moment.utcoffset() is None:
                raise WindowError(f"The {name} of a window needs a zone; this has none: {moment.isoformat()}.")
            object.__setattr__(self, name, moment.astimezone(UTC).replace(microsecond=0))

    @property
    def local_start(self) -> datetime:
        """The start, in the zone of the window (aware)."""
        return self.start.astimezone(load_zone(self.zone))

    @property
    def local_end(self) -> datetime:
        """The end, in the zone of the window (aware)."""
        return self.end.astimezone(load_zone(self.zone))

    @property
    def local_text(self) -> str:
        """The local times as stored with the window and in the trail, such as "2026-11-24 22:00–23:00"."""
        return format_local_window(self.start, self.end, self.zone)

    @property
    def length(self) -> timedelta:
        """The elapsed time between start and end, whatever the clocks do."""
        return self.end - self.start


@dataclass(frozen=True)
class WindowFinding:
    """A problem with a window: an error forbids it, a warning has to be acknowledged."""

    code: str
    level: Literal["error", "warning"]
    reason: str
    advice: str


def check_window(
    window: Window,
    *,
    now: datetime,
    old_ends: datetime | None,
    new_begins: datetime | None,
    new_ends: datetime | None,
    phased: bool = False,
) -> list[WindowFinding]:
    """Return the problems with a window, errors first.

    In a `phased` change it begins at once or on a day, and each partner changes when it is ready until its end: it may
    be long and open already, and has to end while the old certificate is valid. `old_ends` is the old certificate's
    not after, `new_begins` and `new_ends` the new one's validity; None if there is no such certificate (yet). All
    datetimes are aware.
    """
    found = [
        *_own_findings(window, now, phased=phased),
        *_old_certificate_findings(window, now, old_ends, phased=phased),
        *_new_certificate_findings(_remaining(window, now) if phased else window, now, new_begins, new_ends),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def _remaining(window: Window, now: datetime) -> Window:
    """Return what is left of an open window: a phased change may begin before its new certificate is generated."""
    return replace(window, start=now) if window.start < now < window.end else window


def _own_findings(window: Window, now: datetime, *, phased: bool) -> Iterator[WindowFinding]:
    def local(moment: datetime) -> str:
        return format_near_moment(moment, now, window.zone)

    if window.length <= timedelta(0):
        yield WindowFinding(
            "ends_before_start",
            "error",
            f"The window ends at {local(window.end)}, which is not after its start at {local(window.start)}.",
            "Choose an end that lies after the start.",
        )
        return
    if window.end <= now:
        yield WindowFinding(
            "past", "error", f"The window was over at {local(window.end)}.", "Choose a window in the future."
        )
        return
    if phased:
        if window.end - now < PARTNER_NOTICE:
            yield WindowFinding(
                "short_notice",
                "warning",
                f"Partners get less than {PARTNER_NOTICE.days} days: the last moment is {local(window.end)}.",
                "Make sure that each partner can act by then, by telephone if need be, or choose a later day.",
            )
        return
    if window.start <= now:
        yield WindowFinding(
            "already_open",
            "warning",
            f"The window has been open since {local(window.start)}.",
            "The cut-over happens as soon as everybody is ready. Choose a later start to prevent that.",
        )
    elif window.start - now < PARTNER_NOTICE:
        yield WindowFinding(
            "short_notice",
            "warning",
            f"Partners get less than {PARTNER_NOTICE.days} days' notice: the window starts at {local(window.start)}.",
            "Make sure that each partner can act by then, by telephone if need be, or choose a later window.",
        )
    if window.length < SHORT_WINDOW:
        yield WindowFinding(
            "short",
            "warning",
            f"The window is shorter than {SHORT_WINDOW.seconds // 60} minutes. "
            "What isn't cut over when it closes waits for a person.",
            "Choose a longer window, so that a slow system or a retry still fits in.",
        )
    if window.length > LONG_WINDOW:
        yield WindowFinding(
            "long",
            "warning",
            f"The window is longer than {LONG_WINDOW.days} days. "
            "Where a side holds one certificate only, it is unclear all that time which one is in use.",
            "Agree on a narrower window with the partners.",
        )


def _old_certificate_findings(
    window: Window, now: datetime, ends: datetime | None, *, phased: bool
) -> Iterator[WindowFinding]:
    if ends is None:
        return
    when = format_near_moment(ends, now, window.zone)
    if phased and ends - window.end < PHASED_MARGIN:
        yield WindowFinding(
            "old_ends_too_soon",
            "error",
            f"The old certificate ends {when}, and partners that are not ready use it until the last moment. It has to "
            f"be valid for at least {PHASED_MARGIN // timedelta(hours=1)} hours after that.",
            "Choose an earlier day as the last one.",
        )
    elif ends <= window.start:
        yield WindowFinding(
            "after_old_ends",
            "warning",
            f"The old certificate ends before the window starts: {when}. "
            "From then until the cut-over, partners may reject messages.",
            "Choose the earliest window that the partners can keep.",
        )
    elif ends < window.end:
        yield WindowFinding(
            "old_ends_inside",
            "warning",
            f"The old certificate ends inside the window: {when}. "
            "What isn't cut over by then may be rejected by partners.",
            "Choose a window that ends before the old certificate does.",
        )
    elif ends - window.end < EXPIRY_MARGIN:
        yield WindowFinding(
            "close_to_old_end",
            "warning",
            f"Less than {EXPIRY_MARGIN.days} days lie between the window and the end of the old certificate: "
            f"{when}. If the window fails, little time is left for another one.",
            "Choose an earlier window if the partners can keep it.",
        )


def _new_certificate_findings(
    window: Window, now: datetime, begins: datetime | None, ends: datetime | None
) -> Iterator[WindowFinding]:
    if begins is not None and window.start < begins:
        yield WindowFinding(
            "before_new_begins",
            "error",
            f"The new certificate is not valid when the window starts, "
            f"only from {format_near_moment(begins, now, window.zone)}.",
            "Choose a window that starts after that, or another certificate.",
        )
    if ends is not None and ends < window.end:
        yield WindowFinding(
            "after_new_ends",
            "error",
            f"The new certificate ends before the window does: {format_near_moment(ends, now, window.zone)}.",
            "Choose an earlier window, or a certificate that is valid for longer.",
        )


def freeze_finding(names: Iterable[str], *, phased: bool = False) -> WindowFinding:
    """Return the finding that a window lies in these freezes; in a `phased` change, they are left out."""
    listed = ", ".join(names)
    if phased:
        return WindowFinding(
            "frozen",
            "error",
            f"In a part of this time nothing is to be changed: {listed}.",
            "Partners that answer then are changed over for after it. Choose another time, or say why it may be so.",
        )
    return WindowFinding(
        "frozen",
        "error",
        f"In this window nothing is to be changed: {listed}.",
        "Choose another window, or say why it has to be then.",
    )
