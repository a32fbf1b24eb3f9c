"""Sentences about disrupted messages, one for each group that failed for the same reason at the same time."""

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
"""The longest time between messages of one group."""
MAX_NAMES = 4
"""How many names are listed at most; of more, all but the first three are counted."""


@dataclass(frozen=True)
class FailureGroup:
    """Messages in one direction that failed for the same reason, close together; if `endless`, they go on failing."""

    change: CertificateChange
    messages: tuple[DisruptedMessage, ...]
    endless: bool
    validity: CertificateValidity

    def sentence(self, clock: ZoneClock) -> str:
        """Return what becomes of these messages as one sentence."""
        if self.first_failure is None:
            return f"{self.from_then_on(clock)} wait and are never sent."
        if self.first_failure.reason is FailureReason.MDN_SIGNATURE_FAILED:
            return self.doubles_without_end(clock) if self.endless else self.doubles(clock)
        return self.rejections_without_end(clock) if self.endless else self.rejections(clock)

    # What they have in common.

    @property
    def outbound(self) -> bool:
        """Whether they are ours."""
        return self.messages[0].outbound

    @property
    def first_failure(self) -> FailedAttempt | None:
        """Their first failed attempt; None if they wait for ever."""
        return next(iter(self.messages[0].failures), None)

    @cached_property
    def moments(self) -> tuple[datetime, datetime]:
        """When the first and the last of them was created."""
        created = [message.created for message in self.messages]
        return min(created), max(created)

    @property
    def lost(self) -> int:
        """How many are lost."""
        return sum(message.lost for message in self.messages)

    @property
    def twice(self) -> int:
        """How many are delivered more than once."""
        return sum(message.twice for message in self.messages)

    # Sentences.

    def rejections(self, clock: ZoneClock) -> str:
        one = len(self.messages) == 1
        if not self.lost:
            end = "it goes through with a retry" if one else "they go through with the retries"
            end += ", nothing is lost"
        elif self.lost == len(self.messages):
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
        who, them_ = ("it", "it") if len(self.messages) == 1 else ("they", "them")
        if self.twice:
            which = who if self.twice == len(self.messages) else f"{self.twice} of them"
            end = f"{self.sends} {them_} again, and {which} {_is_or_are(self.twice)} delivered {self.times}"
        else:
            end = f"{who} {'counts' if who == 'it' else 'count'} as failed at the sender"
        return f"{self.some_of(clock)} processed, but {self.mdn}: {end}."

    def doubles_without_end(self, clock: ZoneClock) -> str:
        again = f"sent again and delivered {self.times}" if self.twice else "counted as failed"
        return f"{self.from_then_on(clock)} are processed, but {self.mdn}: they are {again}, until somebody steps in."

    # Their parts.

    def some_of(self, clock: ZoneClock) -> str:
        """Return the beginning of a sentence, such as "8 of our messages to Northwind on … are"."""
        count = len(self.messages)
        subject = self.all_of if self.outbound or count > 1 else f"the {self.all_of}"
        number = "One of" if count == 1 else f"{count} of" if self.outbound else f"{count}"
        return f"{number} {subject} {clock.between(*self.moments)} {_is_or_are(count)}"

    def from_then_on(self, clock: ZoneClock) -> str:
        return f"From {clock.moment(self.moments[0])} on, {self.all_of}"

    @cached_property
    def all_of(self) -> str:
        """The name of the messages, such as "our messages to Northwind", "messages from Northwind to OpenAS2"."""
        concerned = {(message.system.key, message.party.key) for message in self.messages}
        systems = [s.name for s in self.change.systems if any(s.key == system for system, _ in concerned)]
        parties = format_names([p.name for p in self.change.parties if any(p.key == party for _, party in concerned)])
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
        parties = {message.party.name for message in self.messages}
        return f"{parties.pop()} sends" if len(parties) == 1 else "the partners send"

    @property
    def times(self) -> str:
        most = max(len(message.delivered) for message in self.messages)
        return "twice" if most == 2 else f"up to {most} times"


def group_failures(
    change: CertificateChange, result: SimulationResult, traffic: Traffic, validity: CertificateValidity
) -> Iterator[FailureGroup]:
    """Yield the disrupted messages in groups, in the order of their beginnings."""
    nearly_over = result.span[1] - 2 * traffic.every
    found: list[tuple[bool, list[DisruptedMessage]]] = []
    for flow in result.flows:
        for run in _split_by_kind(flow.disrupted):
            found.append((flow.broken and run[-1].created >= nearly_over and len(run) > 1, run))
    found.sort(key=lambda entry: entry[1][0].created)
    together: list[tuple[bool, list[DisruptedMessage]]] = []
    for endless, run in found:
        for other_endless, others in together:
            if endless == other_endless and _is_same_kind(others[0], run[0]) and _is_near(others, run):
                others += run
                break
        else:
            together.append((endless, list(run)))
    for endless, messages in together:
        yield FailureGroup(change, tuple(messages), endless, validity)


def _split_by_kind(messages: Sequence[DisruptedMessage]) -> Iterator[list[DisruptedMessage]]:
    """Yield the disrupted messages of one flow in groups of the same kind that lie close together."""
    runs: dict[object, list[DisruptedMessage]] = {}
    found: list[list[DisruptedMessage]] = []
    for message in messages:
        run = runs.get(_failure_kind(message))
        if run is None or message.created - run[-1].created > GROUP_GAP:
            run = runs[_failure_kind(message)] = []
            found.append(run)
        run.append(message)
    yield from found


def _failure_kind(message: DisruptedMessage) -> object:
    return next(((failure.reason, failure.expired) for failure in message.failures), None)


def _is_same_kind(one: DisruptedMessage, other: DisruptedMessage) -> bool:
    return (one.outbound, _failure_kind(one)) == (other.outbound, _failure_kind(other))


def _is_near(messages: Sequence[DisruptedMessage], run: Sequence[DisruptedMessage]) -> bool:
    return run[0].created - max(message.created for message in messages) <= GROUP_GAP


def format_names(found: Sequence[str]) -> str:
    """Return names as text, such as "A", "A and B", "A, B, C and 5 others"."""
    shown = (
        list(found) if len(found) <= MAX_NAMES else [*found[: MAX_NAMES - 1], f"{len(found) - MAX_NAMES + 1} others"]
    )
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
