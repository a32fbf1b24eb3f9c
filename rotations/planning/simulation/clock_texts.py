"""Format times and durations for sentences."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from as2certs.time_format import format_moment
from rotations.planning.windows import load_zone

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class ZoneClock:
    """Format times to the minute in an IANA zone. Raises UnknownZone."""

    zone: str

    def __post_init__(self) -> None:
        load_zone(self.zone)

    def moment(self, at: datetime) -> str:
        """Format a time: "Wed 25 Nov 2026, 04:10 UTC"."""
        return format_moment(at, self.zone, "offset")

    def between(self, first: datetime, last: datetime) -> str:
        """Format the time of an event: "on Wed 25 Nov 2026 between 04:10 and 05:00 UTC"."""
        return self._span(first, last, "between", "and")

    def during(self, first: datetime, last: datetime) -> str:
        """Format a duration with begin and end: "on Wed 25 Nov 2026 from 04:10 until 05:00 UTC"."""
        return self._span(first, last, "from", "until")

    def _span(self, first: datetime, last: datetime, since: str, until: str) -> str:
        (day, clock), (last_day, last_clock) = (
            (format_moment(at, self.zone, "weekday"), format_moment(at, self.zone, "clock")) for at in (first, last)
        )
        if (day, clock) == (last_day, last_clock):
            return f"on {day} at {clock}"
        if day == last_day:
            return f"on {day} {since} {format_moment(first, self.zone, 'hour')} {until} {last_clock}"
        return f"{since} {day}, {clock} {until} {last_day}, {last_clock}"


def format_duration(time: timedelta) -> str:
    """Format a duration in its largest whole unit: "two hours", "90 seconds"."""
    seconds = round(time.total_seconds())
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, size = next((unit, size) for unit, size in units if size == 1 or (seconds and seconds % size == 0))
    count = seconds // size
    return f"{NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else count} {unit}{'' if count == 1 else 's'}"
