"""What went wrong with messages, told together where it is the same thing at the same time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from rotations.planning.change import CertificateChange
from rotations.planning.simulation.clock_texts import ZoneClock
from rotations.planning.simulation.run import SimulationResult
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.traffic import DisruptedMessage, FailedAttempt, FailureReason, Traffic

GROUP_GAP = timedelta(hours=12)
"""Messages that fail for the same reason are told of together unless so much time lies between them."""
MAX_NAMES = 4
"""So many names are told; of more, all but the first three are counted."""


@dataclass(frozen=True)
class FailureGroup:
    """Messages in one direction that failed with the same, close together; with `endless`, they go on failing."""

    change: CertificateChange
    mishaps: tuple[DisruptedMessage, ...]
    endless: bool
    validity: CertificateValidity

    def told(self, clock: ZoneClock) -> str:
        """Tell what becomes of these messages in one sentence."""
        if self.first_failure is None:
            return f"{self.from_then_on(clock)} wait and are never sent."
        if self.first_failure.reason is FailureReason.MDN_SIGNATURE_FAILED:
            return self.doubles_without_end(clock) if self.endless else self.doubles(clock)
        return self.rejections_without_end(clock) if self.endless else self.rejections(clock)

    # What they have in common.

    @property
    def outbound(self) -> bool:
        """Say whether they are ours."""
        return self.mishaps[0].outbound

    @property
    def first_failure(self) -> FailedAttempt | None:
        """Give what went wrong first; None where they wait for ever."""
        return next(iter(self.mishaps[0].failures), None)

    @cached_property
    def moments(self) -> tuple[datetime, datetime]:
        """Give when the first and the last of them was created."""
        created = [mishap.created for mishap in self.mishaps]
        return min(created), max(created)

    @property
    def lost(self) -> int:
        """Count those that are lost."""
        return sum(mishap.lost for mishap in self.mishaps)

    @property
    def twice(self) -> int:
        """Count those that are delivered more than once."""
        return sum(mishap.twice for mishap in self.mishaps)

    # Sentences.

    def rejections(self, clock: ZoneClock) -> str:
        one = len(self.mishaps) == 1
        if not self.lost:
            end = "it goes through with a retry" if one else "they go through with the retries"
            end += ", nothing is lost"
        elif self.lost == len(self.mishaps):
            end = "it is lost when its retries run out" if one else "all are lost when their retries run out"
        else:
            end = f"{self.lost} of them {_is_or_are(self.lost)} lost when the retries run out"
        if self.twice:
            end += f", and {self.twice} of them {_is_or_are(self.twice)} delivered twice"
        return f"{self.some_of(clock)} rejected with {self.reason.rstrip(',')}; {end}."

    def rejections_without_end(self, clock: ZoneClock) -> str:
        return (
            f"{self.from_then_on(clock)} are rejected with {self.reason} and lost when their retries run out, until "
            "somebody steps in."
        )

    def doubles(self, clock: ZoneClock) -> str:
        who, them_ = ("it", "it") if len(self.mishaps) == 1 else ("they", "them")
        if self.twice:
            which = who if self.twice == len(self.mishaps) else f"{self.twice} of them"
            end = f"{self.sends} {them_} again, and {which} {_is_or_are(self.twice)} delivered {self.times}"
        else:
            end = f"{who} {'counts' if who == 'it' else 'count'} as failed at the sender"
        return f"{self.some_of(clock)} processed, but {self.mdn}: {end}."

    def doubles_without_end(self, clock: ZoneClock) -> str:
        again = f"sent again and delivered {self.times}" if self.twice else "counted as failed"
        return f"{self.from_then_on(clock)} are processed, but {self.mdn}: they are {again}, until somebody steps in."

    # Their parts.

    def some_of(self, clock: ZoneClock) -> str:
        """Begin a sentence with how many it is about, and when: "8 of our messages to Northwind on … are"."""
        count = len(self.mishaps)
        whose = self.all_of if self.outbound or count > 1 else f"the {self.all_of}"
        number = "One of" if count == 1 else f"{count} of" if self.outbound else f"{count}"
        return f"{number} {whose} {clock.between(*self.moments)} {_is_or_are(count)}"

    def from_then_on(self, clock: ZoneClock) -> str:
        return f"From {clock.moment(self.moments[0])} on, {self.all_of}"

    @cached_property
    def all_of(self) -> str:
        """Name the messages: "our messages to Northwind", "messages from Northwind to OpenAS2 and Gateway"."""
        concerned = {(mishap.system.key, mishap.party.key) for mishap in self.mishaps}
        systems = [s.name for s in self.change.systems if any(s.key == system for system, _ in concerned)]
        parties = format_names(
            [p.name for p in self.change.parties if any(p.key == party for _, party in concerned)]
        )
        system = format_names(systems) if len(self.change.systems) > 1 else ""
        if self.outbound:
            return f"our messages{f' from {system}' if system else ''} to {parties}"
        return f"messages from {parties}{f' to {system}' if system else ''}"

    @property
    def reason(self) -> str:
        failure = self.first_failure
        assert failure is not None
        if not failure.expired:
            return failure.reason
        until = self.validity.old_until
        ended = until is not None and failure.read >= until
        why = f"{self.change.old_name} has ended" if ended else f"{self.change.new_name} is not valid yet"
        return f"{failure.reason}, as {why},"

    @property
    def mdn(self) -> str:
        return "the MDN does not verify here" if self.outbound else "our MDN does not verify there"

    @property
    def sends(self) -> str:
        if self.outbound:
            return "we send"
        parties = {mishap.party.name for mishap in self.mishaps}
        return f"{parties.pop()} sends" if len(parties) == 1 else "the partners send"

    @property
    def times(self) -> str:
        most = max(len(mishap.delivered) for mishap in self.mishaps)
        return "twice" if most == 2 else f"up to {most} times"


def group_failures(
    change: CertificateChange, outcome: SimulationResult, traffic: Traffic, validity: CertificateValidity
) -> Iterator[FailureGroup]:
    """Group all mishaps of an outcome, in the order of their beginnings."""
    nearly_over = outcome.span[1] - 2 * traffic.every
    found: list[tuple[bool, list[DisruptedMessage]]] = []
    for tally in outcome.tallies:
        for run in _split_by_kind(tally.mishaps):
            found.append((tally.broken and run[-1].created >= nearly_over and len(run) > 1, run))
    found.sort(key=lambda entry: entry[1][0].created)
    together: list[tuple[bool, list[DisruptedMessage]]] = []
    for endless, run in found:
        for other_endless, others in together:
            if endless == other_endless and _is_same_kind(others[0], run[0]) and _is_near(others, run):
                others += run
                break
        else:
            together.append((endless, list(run)))
    for endless, mishaps in together:
        yield FailureGroup(change, tuple(mishaps), endless, validity)


def _split_by_kind(mishaps: Sequence[DisruptedMessage]) -> Iterator[list[DisruptedMessage]]:
    """Cut the mishaps of one flow into those of the same kind that lie together."""
    runs: dict[object, list[DisruptedMessage]] = {}
    found: list[list[DisruptedMessage]] = []
    for mishap in mishaps:
        run = runs.get(_failure_kind(mishap))
        if run is None or mishap.created - run[-1].created > GROUP_GAP:
            run = runs[_failure_kind(mishap)] = []
            found.append(run)
        run.append(mishap)
    yield from found


def _failure_kind(mishap: DisruptedMessage) -> object:
    return next(((failure.reason, failure.expired) for failure in mishap.failures), None)


def _is_same_kind(one: DisruptedMessage, other: DisruptedMessage) -> bool:
    return (one.outbound, _failure_kind(one)) == (other.outbound, _failure_kind(other))


def _is_near(mishaps: Sequence[DisruptedMessage], run: Sequence[DisruptedMessage]) -> bool:
    return run[0].created - max(mishap.created for mishap in mishaps) <= GROUP_GAP


def format_names(found: Sequence[str]) -> str:
    """List names: "A", "A and B", "A, B, C and 5 others"."""
    shown = (
        list(found)
        if len(found) <= MAX_NAMES
        else [*found[: MAX_NAMES - 1], f"{len(found) - MAX_NAMES + 1} others"]
    )
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
