"""Whether a plan, as it went, kept the law: in every state that was reached, and for every message.

`rotations.planning.rules` judges the plan; this judges what came of it, and takes no word of the plan for granted
except which swaps were to happen at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rotations.planning.change import Act, PlannedStep, our_side, our_side_to
from rotations.planning.simulation.stations import Certificates, SlotPair
from rotations.planning.simulation.timeline import Timeline
from rotations.planning.simulation.traffic import DisruptedMessage, FailedAttempt, FailureReason

TimeSpan = tuple[datetime, datetime]


@dataclass(frozen=True)
class SwapWindow:
    """The time from the first to the last of the two switches that were to happen at once."""

    begins: datetime
    ends: datetime

    def touches(self, begins: datetime, ends: datetime) -> bool:
        """Say whether something that lasted from `begins` to `ends` was under way during the swap."""
        return begins <= self.ends and ends >= self.begins


def rule_violations(
    course: Timeline, steps: Sequence[PlannedStep], mishaps: Iterable[DisruptedMessage], span: TimeSpan
) -> list[str]:
    """List in sentences where the law was broken within the span, from the states and from the messages."""
    judge = _ViolationFinder(course, steps, span)
    return list(dict.fromkeys([*judge.crowded(), *judge.apart(), *judge.failed(mishaps)]))


def swap_window(course: Timeline, steps: Sequence[PlannedStep], link: SlotPair) -> SwapWindow | None:
    """Give the time during which a link may be apart, or None: then it may at no time.

    Both ends were to move at once, for want of room at the reader. Before and after the window nothing excuses them.
    In an emergency it is from the first switch until the other side has followed, at the latest when it was asked to.
    """
    if course.change.emergency:
        return _emergency_swap(course, link)
    if link.reader.place.roomy:
        return None
    marked = {(e.at, e.role) for step in steps if step.simultaneous for e in step.effects}
    if not all((slot.place.at, slot.place.role) in marked for slot in (link.writer, link.reader)):
        return None
    starts, end = course.change.window_of(link.party)
    moments = [course.lines[slot].moments for slot in (link.writer, link.reader)]
    begins = min((moment for found in moments for moment in found), default=starts)
    ends = max(found[-1] for found in moments) if all(moments) else end
    return SwapWindow(max(begins, starts), min(ends, end))


def _emergency_swap(course: Timeline, link: SlotPair) -> SwapWindow | None:
    moments = [course.lines[slot].moments for slot in (link.writer, link.reader)]
    if not any(moments):
        return None
    begins = min(moment for found in moments for moment in found)
    return SwapWindow(begins, max(found[-1] for found in moments) if all(moments) else course.change.ends)


class _ViolationFinder:
    def __init__(self, course: Timeline, steps: Sequence[PlannedStep], span: TimeSpan) -> None:
        self.course = course
        self.span = span
        self.swaps = {link: swap_window(course, steps, link) for link in course.links}
        self.held_back = {step.at for step in steps if step.act is Act.HOLD}

    def crowded(self) -> Iterator[str]:
        """Find slots that hold more than they can, and writers without exactly one certificate."""
        for slot, line in self.course.lines.items():
            most = 2 if slot.place.reads and slot.place.roomy else 1
            for begins, _, held in line.spans():
                if not 1 <= len(held) <= most:
                    found = "both certificates" if held else "no certificate"
                    begin = _format_time(begins)
                    yield f"From {begin}, {slot.name} has {found}; it needs at least one, at most {most}."

    def apart(self) -> Iterator[str]:
        """Find when a writer used what its reader did not hold."""
        for link, swap in self.swaps.items():
            for begins, ends in self.bad_spans(link):
                # What was excused is cut out, what lies before or after it is not.
                for since, until in _outside_swap((begins, ends), swap):
                    yield (
                        f"From {_format_time(since)} until {_format_time(until)}, {link.writer.name} used the "
                        f"{_format_certificates(self.course.lines[link.writer].at(since))} certificate; "
                        f"{link.reader.name} "
                        f"held only the {_format_certificates(self.course.lines[link.reader].at(since))}."
                    )

    def bad_spans(self, link: SlotPair) -> Iterator[TimeSpan]:
        writer, reader = (self.course.lines[slot] for slot in (link.writer, link.reader))
        begins, ends = self.span
        moments = sorted({m for m in (*writer.moments, *reader.moments) if begins < m < ends})
        for since, until in pairwise([begins, *moments, ends]):
            if not writer.at(since) <= reader.at(since):
                yield since, until

    def failed(self, mishaps: Iterable[DisruptedMessage]) -> Iterator[str]:
        """Find messages that failed although nothing excuses it."""
        found: dict[tuple[str, str, FailureReason], list[datetime]] = defaultdict(list)
        for mishap in mishaps:
            ends = (mishap.system.name, mishap.party.name)
            sender, receiver = ends if mishap.outbound else ends[::-1]
            for failure in mishap.failures:
                if not self.excused(mishap, failure):
                    found[sender, receiver, failure.reason].append(mishap.created)
                    break
        for (sender, receiver, reason), created in found.items():
            count = "One message" if len(created) == 1 else f"{len(created)} messages"
            yield (
                f"{count} from {sender} to {receiver} failed with “{reason}” outside of any swap, the first one "
                f"sent at {_format_time(min(created))}."
            )

    def excused(self, mishap: DisruptedMessage, failure: FailedAttempt) -> bool:
        """Say whether a failure falls into a swap; where our queue was to be paused for it, none of ours may."""
        if failure.expired:
            return True  # The law is about the order of changes; that a certificate ends is told by the messages.
        ours = {our_side(mishap.system.key), our_side_to(mishap.system.key, mishap.party.key)}
        if mishap.outbound and ours & self.held_back:
            return False
        swap = self.swaps[failure.link]
        return swap is not None and swap.touches(failure.written, failure.read)


def _outside_swap(span: TimeSpan, swap: SwapWindow | None) -> list[TimeSpan]:
    begins, ends = span
    if swap is None or ends <= swap.begins or begins >= swap.ends:
        return [span]
    parts = [(begins, min(ends, swap.begins)), (max(begins, swap.ends), ends)]
    return [(since, until) for since, until in parts if since < until]


def _format_certificates(held: Certificates) -> str:
    return " and ".join(sorted(held, reverse=True)) or "none"


def _format_time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "the beginning"
