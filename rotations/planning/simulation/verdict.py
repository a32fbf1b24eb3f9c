"""Check the rules in the execution of a plan: in every state that was reached, and for every message.

`rotations.planning.rules` checks the plan; this checks the result, and relies on nothing in the plan except which
switches are simultaneous.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from as2certs.time_format import format_moment
from rotations.planning.change import Act, PlannedStep, our_side, our_side_to
from rotations.planning.rules import Certificates
from rotations.planning.simulation.stations import SlotPair
from rotations.planning.simulation.timeline import Timeline
from rotations.planning.simulation.traffic import DisruptedMessage, FailedAttempt, FailureReason

TimeSpan = tuple[datetime, datetime]


@dataclass(frozen=True)
class SwapWindow:
    """The time from the first to the second of two simultaneous switches."""

    begins: datetime
    ends: datetime

    def touches(self, begins: datetime, ends: datetime) -> bool:
        """Return whether the time from `begins` to `ends` overlaps the swap."""
        return begins <= self.ends and ends >= self.begins


def rule_violations(
    timeline: Timeline, steps: Sequence[PlannedStep], disrupted: Iterable[DisruptedMessage], span: TimeSpan
) -> list[str]:
    """Return the violations within the span as sentences, from the states and from the messages."""
    finder = _ViolationFinder(timeline, steps, span)
    return list(dict.fromkeys([*finder.crowded(), *finder.apart(), *finder.failed(disrupted)]))


def swap_window(timeline: Timeline, steps: Sequence[PlannedStep], pair: SlotPair) -> SwapWindow | None:
    """Return the time in which a reader may lack what the writer uses, or None if there is none.

    That is between two simultaneous switches inside the window, if the reader has no room for both certificates. In an
    emergency it is from the first switch until the other side has followed, at the latest until the end of its time.
    """
    if timeline.change.emergency:
        return _emergency_swap(timeline, pair)
    if pair.reader.place.holds_both:
        return None
    marked = {(e.at, e.role) for step in steps if step.simultaneous for e in step.effects}
    if not all((slot.place.at, slot.place.role) in marked for slot in (pair.writer, pair.reader)):
        return None
    starts, end = timeline.change.window_of(pair.party)
    moments = [timeline.histories[slot].moments for slot in (pair.writer, pair.reader)]
    begins = min((moment for found in moments for moment in found), default=starts)
    ends = max(found[-1] for found in moments) if all(moments) else end
    return SwapWindow(max(begins, starts), min(ends, end))


def _emergency_swap(timeline: Timeline, pair: SlotPair) -> SwapWindow | None:
    moments = [timeline.histories[slot].moments for slot in (pair.writer, pair.reader)]
    if not any(moments):
        return None
    begins = min(moment for found in moments for moment in found)
    return SwapWindow(begins, max(found[-1] for found in moments) if all(moments) else timeline.change.ends)


class _ViolationFinder:
    def __init__(self, timeline: Timeline, steps: Sequence[PlannedStep], span: TimeSpan) -> None:
        self.timeline = timeline
        self.span = span
        self.swaps = {pair: swap_window(timeline, steps, pair) for pair in timeline.slot_pairs}
        self.held_back = {step.at for step in steps if step.act is Act.HOLD}

    def crowded(self) -> Iterator[str]:
        """Find slots without a certificate, or with more than fit."""
        for slot, history in self.timeline.histories.items():
            most = 2 if slot.place.reads and slot.place.holds_both else 1
            for begins, _, held in history.spans():
                if not 1 <= len(held) <= most:
                    found = "both certificates" if held else "no certificate"
                    begin = _format_time(begins)
                    yield f"From {begin}, {slot.name} has {found}; it needs at least one, at most {most}."

    def apart(self) -> Iterator[str]:
        """Find times in which a writer used a certificate that its reader did not hold."""
        for pair, swap in self.swaps.items():
            for begins, ends in self.bad_spans(pair):
                # Only the time of the swap is excused, not what lies before or after it.
                for since, until in _outside_swap((begins, ends), swap):
                    yield (
                        f"From {_format_time(since)} until {_format_time(until)}, {pair.writer.name} used the "
                        f"{_format_certificates(self.timeline.histories[pair.writer].at(since))} certificate; "
                        f"{pair.reader.name} "
                        f"held only the {_format_certificates(self.timeline.histories[pair.reader].at(since))}."
                    )

    def bad_spans(self, pair: SlotPair) -> Iterator[TimeSpan]:
        writer, reader = (self.timeline.histories[slot] for slot in (pair.writer, pair.reader))
        begins, ends = self.span
        moments = sorted({m for m in (*writer.moments, *reader.moments) if begins < m < ends})
        for since, until in pairwise([begins, *moments, ends]):
            if not writer.at(since) <= reader.at(since):
                yield since, until

    def failed(self, disrupted: Iterable[DisruptedMessage]) -> Iterator[str]:
        """Find messages that failed outside of a swap."""
        found: dict[tuple[str, str, FailureReason], list[datetime]] = defaultdict(list)
        for message in disrupted:
            ends = (message.system.name, message.party.name)
            sender, receiver = ends if message.outbound else ends[::-1]
            for failure in message.failures:
                if not self.excused(message, failure):
                    found[sender, receiver, failure.reason].append(message.created)
                    break
        for (sender, receiver, reason), created in found.items():
            count = "One message" if len(created) == 1 else f"{len(created)} messages"
            yield (
                f"{count} from {sender} to {receiver} failed with “{reason}” outside of any swap, the first one "
                f"sent at {_format_time(min(created))}."
            )

    def excused(self, message: DisruptedMessage, failure: FailedAttempt) -> bool:
        """Return whether a failure falls into a swap; our messages are not excused if the plan pauses our queue."""
        if failure.expired:
            return True  # The rules are about the order of changes; expiry is reported with the messages.
        ours = {our_side(message.system.key), our_side_to(message.system.key, message.party.key)}
        if message.outbound and ours & self.held_back:
            return False
        swap = self.swaps[failure.slots]
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
    return f"{format_moment(moment, 'UTC', 'iso_seconds')} UTC" if moment else "the beginning"
