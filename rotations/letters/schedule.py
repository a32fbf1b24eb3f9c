"""When a partner that has not answered is reminded, and when our people are told instead. Pure: no Django, no clock.

A ladder has rungs so many days after a partner was asked, and so many days before the window. A day is 24 hours of
elapsed time, whatever the clocks do in between. The rules:

- A rung counts only between the moment at which the partner was asked and the beginning of the window.
- A rung "after" that lies within a day of a rung "before" gives way to it: nobody is reminded twice in a day.
- Who was given more time is left alone for the first half of it. Rungs that fall into that half wait for its end,
  and of several that wait only the last one speaks.
- Of rungs that have been crossed unheard, as after downtime, only the last one speaks; and none whose moment lies
  before the last letter to the partner.
- Our people are told halfway between the last rung and the window; where more time was given, once it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from rotations.errors import ThresholdError

#: Rungs that are nearer to each other than this are one.
MIN_DISTANCE = timedelta(days=1)
#: Days: no rung is farther away, and no ladder has more of them.
MAX_DAYS, MAX_REMINDERS = 60, 10


@dataclass(frozen=True)
class ScheduledReminder:
    """One moment (aware) at which a partner is reminded: so many days "after" it was asked, or "before" the window."""

    kind: Literal["after", "before"]
    days: int
    at: datetime

    @property
    def name(self) -> str:
        """Return what a letter of this rung is marked with, such as "after 7"."""
        return f"{self.kind} {self.days}"


@dataclass(frozen=True)
class ReminderSchedule:
    """What decides when one partner is reminded; all moments are aware.

    ``asked_at`` is when it was last asked for an answer: by the announcement, or anew because the window moved or its
    proposal was refused. ``answer_by`` is set where it was given more time, at ``extended_at``.
    """

    after: Sequence[int]
    before: Sequence[int]
    asked_at: datetime
    starts: datetime
    answer_by: datetime | None = None
    extended_at: datetime | None = None

    def rungs(self) -> list[ScheduledReminder]:
        """Return its rungs in the order of their moments."""
        before = [
            ScheduledReminder("before", days, self.starts - timedelta(days=days)) for days in set(self.before)
        ]
        after = [
            ScheduledReminder("after", days, self.asked_at + timedelta(days=days)) for days in set(self.after)
        ]
        before = [rung for rung in before if rung.at > self.asked_at]
        after = [rung for rung in after if all(abs(rung.at - other.at) >= MIN_DISTANCE for other in before)]
        inside = [rung for rung in (*before, *after) if rung.at < self.starts]
        return self._put_off(sorted(inside, key=lambda rung: rung.at))

    def _put_off(self, rungs: list[ScheduledReminder]) -> list[ScheduledReminder]:
        """Let the rungs in the first half of an extension wait for its end, the last of them for all."""
        if self.answer_by is None or self.extended_at is None:
            return rungs
        until = self.extended_at + (self.answer_by - self.extended_at) / 2
        quiet = [rung for rung in rungs if self.extended_at < rung.at < until]
        others = [rung for rung in rungs if rung not in quiet]
        waiting = [replace(quiet[-1], at=until)] if quiet else []
        return sorted([*others, *waiting], key=lambda rung: rung.at)

    def crossed(self, now: datetime, *, written_at: datetime) -> ScheduledReminder | None:
        """Return the last rung that was crossed after the partner was last written to; None where there is none."""
        if now >= self.starts:
            return None
        since = max(written_at, self.extended_at or written_at)
        return max(
            (rung for rung in self.rungs() if since < rung.at <= now), key=lambda r: r.at, default=None
        )

    def coming(self, now: datetime) -> list[ScheduledReminder]:
        """Return the rungs that are still to come, the next one first."""
        return [rung for rung in self.rungs() if rung.at > now]

    @property
    def escalates_at(self) -> datetime:
        """Return from when on silence is a matter for our people."""
        if self.answer_by is not None:
            return self.answer_by
        last = max((rung.at for rung in self.rungs()), default=self.asked_at)
        return last + (self.starts - last) / 2


def check_days(days: Sequence[int]) -> None:
    """Refuse days that make no ladder: more than ``MOST``, one twice, or one out of range. Raises ThresholdError."""
    if outside := [day for day in days if not 1 <= day <= MAX_DAYS]:
        raise ThresholdError(f"{outside[0]} is out of range: choose days between 1 and {MAX_DAYS}.")
    if twice := [day for day in days if list(days).count(day) > 1]:
        raise ThresholdError(f"{twice[0]} stands there twice: each day reminds once.")
    if len(days) > MAX_REMINDERS:
        raise ThresholdError(
            f"These are {len(days)} days, and {MAX_REMINDERS} at most make sense: leave some out."
        )
