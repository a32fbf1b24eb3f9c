"""When a partner that has not answered is reminded, and when our people are notified. Pure: no Django, no clock.

Reminders are due a number of days after the partner was asked, and a number of days before the window. A day is 24
hours of elapsed time, regardless of DST changes. The rules:

- A reminder is due only between the moment at which the partner was asked and the start of the window; or its end,
  where the partner can still act inside it.
- The days "before" count back from the moment by which an answer is needed: the start of the window, or the end if no
  reminder fits before the start.
- A reminder "after" that is within a day of one "before" is dropped: nobody is reminded twice in a day.
- A partner whose deadline was extended gets no reminder in the first half of the extension. Of the reminders in that
  half, the last one is due at its end.
- Of several overdue reminders, as after downtime, only the last one is sent, and none that was due before the last
  letter to the partner.
- Our people are notified after the last reminder: halfway between it and the moment until which reminders are due; or
  at the end of an extension.

Partners are asked to answer some working days before the window, so that our people can act on the answers: see
``AnswerLead``. Where that is before the window, our people are notified then, see ``exchange.follow_up``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from rotations.errors import ThresholdError
from rotations.planning.freeze_calendar import FreezePeriod

#: The minimum distance between two reminders.
MIN_DISTANCE = timedelta(days=1)
#: The limits of a schedule.
MAX_DAYS, MAX_REMINDERS = 60, 10
#: How far back working days are counted: freezes that come back each week could leave none at all.
MAX_LOOK_BACK = timedelta(days=400)


@dataclass(frozen=True)
class ScheduledReminder:
    """A reminder, due (aware) a number of days "after" the partner was asked or "before" the window."""

    kind: Literal["after", "before"]
    days: int
    at: datetime

    @property
    def name(self) -> str:
        """Return the name under which its letter is recorded, such as "after 7"."""
        return f"{self.kind} {self.days}"


@dataclass(frozen=True)
class ReminderSchedule:
    """The reminders of one partner; all moments are aware.

    ``starts`` is when the window starts, and ``until`` the end up to which the partner can act inside it, if it can.
    ``asked_at`` is when it was last asked for an answer: by the announcement, or again because the window moved or its
    proposal was refused. ``answer_by`` is the deadline if it was extended, at ``extended_at``.
    """

    after: Sequence[int]
    before: Sequence[int]
    asked_at: datetime
    starts: datetime
    answer_by: datetime | None = None
    extended_at: datetime | None = None
    until: datetime | None = None

    @property
    def ends(self) -> datetime:
        """Return until when reminders are due."""
        return self.until or self.starts

    @property
    def needed_by(self) -> datetime:
        """Return the moment by which an answer is needed, from which the days "before" count back."""
        return self.ends if self.fits(self.ends) and not self.fits(self.starts) else self.starts

    def fits(self, moment: datetime) -> bool:
        """Return whether there is time for a reminder before a moment."""
        return any(timedelta(days=days) < moment - self.asked_at for days in (*self.after, *self.before))

    def reminders(self) -> list[ScheduledReminder]:
        """Return the reminders in chronological order."""
        before = [ScheduledReminder("before", days, self.needed_by - timedelta(days=days)) for days in set(self.before)]
        after = [ScheduledReminder("after", days, self.asked_at + timedelta(days=days)) for days in set(self.after)]
        before = [reminder for reminder in before if reminder.at > self.asked_at]
        after = [reminder for reminder in after if all(abs(reminder.at - other.at) >= MIN_DISTANCE for other in before)]
        inside = [reminder for reminder in (*before, *after) if reminder.at < self.ends]
        return self._postpone(sorted(inside, key=lambda reminder: reminder.at))

    def _postpone(self, reminders: list[ScheduledReminder]) -> list[ScheduledReminder]:
        """Replace the reminders in the first half of an extension by one at the end of that half."""
        if self.answer_by is None or self.extended_at is None:
            return reminders
        until = self.extended_at + (self.answer_by - self.extended_at) / 2
        quiet = [reminder for reminder in reminders if self.extended_at < reminder.at < until]
        others = [reminder for reminder in reminders if reminder not in quiet]
        waiting = [replace(quiet[-1], at=until)] if quiet else []
        return sorted([*others, *waiting], key=lambda reminder: reminder.at)

    def due(self, now: datetime, *, written_at: datetime) -> ScheduledReminder | None:
        """Return the last reminder that became due since the partner was last written to, if any."""
        if now >= self.ends:
            return None
        since = max(written_at, self.extended_at or written_at)
        return max(
            (reminder for reminder in self.reminders() if since < reminder.at <= now),
            key=lambda reminder: reminder.at,
            default=None,
        )

    def upcoming(self, now: datetime) -> list[ScheduledReminder]:
        """Return the reminders after ``now``, the next one first."""
        return [reminder for reminder in self.reminders() if reminder.at > now]

    @property
    def escalates_at(self) -> datetime:
        """Return when our people are notified that the partner is silent."""
        if self.answer_by is not None:
            return self.answer_by
        last = max((reminder.at for reminder in self.reminders()), default=self.asked_at)
        return last + ((self.needed_by if last < self.needed_by else self.ends) - last) / 2


@dataclass(frozen=True)
class AnswerLead:
    """How many working days before a window its partners are asked to answer.

    ``work_days`` are our weekdays (0 is Monday) by the calendar of ``zone``; our people need these days to act on the
    answers, such as to move the window. Days in one of ``freezes`` don't count as working days.
    """

    days: int
    work_days: Collection[int]
    zone: str
    freezes: Sequence[FreezePeriod] = ()

    def deadline(self, starts: datetime, *, now: datetime) -> datetime:
        """Return the default deadline (UTC) for answers to a window that starts at ``starts``; both are aware.

        Never before ``now``: with short notice it is as many working days before the window as are left, and the start
        itself when none is.
        """
        return next((at for days in range(self.days, 0, -1) if (at := self._days_before(starts, days)) > now), starts)

    def _days_before(self, starts: datetime, days: int) -> datetime:
        """Return the same time of day so many working days earlier, in UTC."""
        local = starts.astimezone(ZoneInfo(self.zone))
        earliest = starts - MAX_LOOK_BACK
        frozen = [span for freeze in self.freezes for span in freeze.spans(earliest, starts)]
        while days and local.astimezone(UTC) > earliest:
            local -= timedelta(days=1)  # the wall clock's time, whatever the clocks do
            days -= self._is_working_day(local, frozen)
        return local.astimezone(UTC)

    def _is_working_day(self, local: datetime, frozen: Sequence[tuple[datetime, datetime]]) -> bool:
        """Return whether our people work on the day of a local moment; a freeze takes away the days that it touches."""
        if local.weekday() not in (self.work_days or range(7)):
            return False
        begins = local.replace(hour=0, minute=0, second=0, microsecond=0)
        ends = begins + timedelta(days=1)
        return not any(since < ends and until > begins for since, until in frozen)


def check_days(days: Sequence[int]) -> None:
    """Validate days: at most ``MAX_REMINDERS``, no duplicates, none out of range. Raises ThresholdError."""
    if outside := [day for day in days if not 1 <= day <= MAX_DAYS]:
        raise ThresholdError(f"{outside[0]} is out of range: choose days between 1 and {MAX_DAYS}.")
    if twice := [day for day in days if list(days).count(day) > 1]:
        raise ThresholdError(f"{twice[0]} stands there twice: each day reminds once.")
    if len(days) > MAX_REMINDERS:
        raise ThresholdError(f"These are {len(days)} days, and {MAX_REMINDERS} at most make sense: leave some out.")
