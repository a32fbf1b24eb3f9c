"""Messages and their MDNs between one system of ours and one partner, in one direction.

A message is encrypted and signed with what its sender writes with at that moment, and read with what the receiver
holds when it arrives; the MDN likewise, the other way round. What is not acknowledged is sent again, encrypted and
signed anew, until the retries run out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from random import Random

from rotations.planning.change import Party, Role, System, our_side, our_side_to, partner_side
from rotations.planning.simulation.stations import CertificateValidity, SlotHistory, SlotPair
from rotations.planning.simulation.timeline import QueuePause, Timeline


class FailureReason(StrEnum):
    """What an attempt failed with: the modifier of the MDN, or that the MDN itself could not be verified."""

    AUTHENTICATION_FAILED = "authentication-failed"
    DECRYPTION_FAILED = "decryption-failed"
    MDN_SIGNATURE_FAILED = "MDN signature fails"


MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Traffic:
    """How messages flow. `every` is the time from one to the next in one direction, `transit` that on the wire.

    Half of the MDNs come at once, half up to `mdn_delay` later, signed at some moment in between. `retries` are the
    pauses before each further attempt.
    """

    every: timedelta = 5 * MINUTE
    transit: timedelta = timedelta(seconds=2)
    mdn_delay: timedelta = 30 * MINUTE
    retries: tuple[timedelta, ...] = (5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 60 * MINUTE)

    @property
    def life(self) -> timedelta:
        """Give the longest time from sending a message to reading its MDN."""
        return 2 * self.transit + self.mdn_delay


@dataclass(frozen=True)
class FailedAttempt:
    """One attempt that failed: what was written with a certificate at `written` could not be read at `read`.

    `expired` says that the reader held the certificate, but it was not valid.
    """

    link: SlotPair
    reason: FailureReason
    written: datetime
    read: datetime
    expired: bool


@dataclass(frozen=True)
class DisruptedMessage:
    """A message that did not go through at once.

    `delivered` lists when it was processed; more than once where its MDN did not verify. `acknowledged` is when the
    sender learned of it. With `stuck`, its sender's queue is never released.
    """

    created: datetime
    outbound: bool
    system: System
    party: Party
    failures: tuple[FailedAttempt, ...]
    delivered: tuple[datetime, ...]
    acknowledged: datetime | None
    stuck: bool = False

    @property
    def rejected(self) -> bool:
        """Say whether its receiver rejected it at least once."""
        return any(failure.reason is not FailureReason.MDN_SIGNATURE_FAILED for failure in self.failures)

    @property
    def lost(self) -> bool:
        """Say whether it was never processed, although its retries have run out."""
        return not self.delivered and not self.stuck

    @property
    def twice(self) -> bool:
        """Say whether it was processed twice, or more often."""
        return len(self.delivered) > 1


@dataclass(frozen=True)
class FlowResult:
    """What became of the messages of one flow: how many there were, how many waited in a queue, what went wrong.

    `broken` says that at the end messages fail, or wait for good.
    """

    outbound: bool
    system: System
    party: Party
    messages: int
    waited: int
    mishaps: tuple[DisruptedMessage, ...]
    broken: bool

    @property
    def queues(self) -> tuple[str, ...]:
        """Name what may hold its messages, as `Effect.at` spells it: a side as a whole, or ours towards the partner."""
        return _queue_sides(self.system, self.party, outbound=self.outbound)


@dataclass(frozen=True)
class ReadCheck:
    """One place at which a message or MDN is read, and what it was written with."""

    link: SlotPair
    written: SlotHistory
    read: SlotHistory
    reason: FailureReason
    validity: CertificateValidity

    def failure(self, written: datetime, read: datetime) -> FailedAttempt | None:
        """Return what goes wrong with something written and read at these moments."""
        certificates = self.written.at(written)
        unknown = not certificates or not certificates <= self.read.at(read)
        if unknown or not all(self.validity.accepts(certificate, read) for certificate in certificates):
            return FailedAttempt(self.link, self.reason, written, read, expired=not unknown)
        return None

    @property
    def moments(self) -> list[datetime]:
        """List the moments at which the answer may change."""
        return [*self.written.moments, *self.read.moments, *self.validity.moments]


def message_flows(
    course: Timeline,
    traffic: Traffic,
    validity: CertificateValidity,
    span: tuple[datetime, datetime],
    seed: int,
) -> Iterator["MessageFlow"]:
    """Make both flows between each system of ours and each partner, with messages created within the span."""
    for system in course.change.systems:
        for party in course.change.parties:
            between = [link for link in course.links if (link.system, link.party) == (system, party)]
            links = {(link.role, link.reader.mdns): link for link in between}
            for outbound in (True, False):
                yield MessageFlow(course, traffic, validity, span, seed, (system, party), outbound, links)


class MessageFlow:
    """The messages from one side to the other. The same arguments always make the same ones."""

    def __init__(
        self,
        course: Timeline,
        traffic: Traffic,
        validity: CertificateValidity,
        span: tuple[datetime, datetime],
        seed: int,
        sides: tuple[System, Party],
        outbound: bool,
        links: Mapping[tuple[Role, bool], SlotPair],
    ) -> None:
        """Take who talks to whom, and the links between them by role and whether MDNs are read."""
        self.course, self.traffic, self.validity = course, traffic, validity
        self.system, self.party = sides
        self.outbound = outbound
        sender, receiver = our_side(self.system.key), partner_side(self.party.key)
        held = [at for at in _queue_sides(self.system, self.party, outbound=outbound) if at in course.pauses]
        self.pause: QueuePause | None = course.pauses[held[0]] if held else None
        encrypts, signs, acknowledges = (
            (Role.ENCRYPT, Role.SIGN, Role.VERIFY) if outbound else (Role.DECRYPT, Role.VERIFY, Role.SIGN)
        )
        self.to_receiver = [
            check
            for check in (
                self.check(links.get((encrypts, False)), FailureReason.DECRYPTION_FAILED),
                self.check(links.get((signs, False)), FailureReason.AUTHENTICATION_FAILED),
            )
            if check is not None
        ]
        self.to_sender = self.check(links.get((acknowledges, True)), FailureReason.MDN_SIGNATURE_FAILED)
        self.seed = f"{seed}/{sender}/{receiver}/{outbound}"
        self.begins, self.ends = span
        self.first = self.begins + traffic.every * _seeded_random(self.seed).random()

    def check(self, link: SlotPair | None, reason: FailureReason) -> ReadCheck | None:
        if link is None:  # The certificate of this role does not change: it never fails.
            return None
        lines = self.course.lines
        return ReadCheck(link, lines[link.writer], lines[link.reader], reason, self.validity)

    @cached_property
    def checks(self) -> list[ReadCheck]:
        """List all places at which a message of this flow or its MDN may fail."""
        return [*self.to_receiver, *([self.to_sender] if self.to_sender else [])]

    def created(self, number: int) -> datetime:
        """Say when a message comes into being."""
        return self.first + number * self.traffic.every

    def number_from(self, moment: datetime) -> int:
        """Give the number of the first message that is created at a moment or after it."""
        return max(0, -((self.first - moment) // self.traffic.every))

    def run(self) -> FlowResult:
        """Send all messages. Those that pass, and in whose life nothing changes, are only counted."""
        waited, mishaps = 0, list[DisruptedMessage]()
        for begins, ends in pairwise(self.turns()):
            calm = ends - self.traffic.life if self.passes(begins) else begins
            since, until = self.number_from(begins), self.number_from(ends)
            for number in range(max(since, self.number_from(calm)), until):
                waited += self.waits(self.created(number))
                mishap = self.send(number)
                if mishap is not None:
                    mishaps.append(mishap)
        count, broken = self.number_from(self.ends), not self.passes(self.ends)
        return FlowResult(self.outbound, self.system, self.party, count, waited, tuple(mishaps), broken)

    def turns(self) -> list[datetime]:
        """List begin, end, and the moments in between at which the fate of messages may turn."""
        found = {moment for check in self.checks for moment in check.moments}
        if self.pause:
            found |= {m for m in (self.pause.begins, self.pause.ends) if m is not None}
        return [self.begins, *sorted(m for m in found if self.begins < m < self.ends), self.ends]

    def waits(self, moment: datetime) -> bool:
        """Say whether the sender's queue is paused."""
        return self.pause is not None and self.pause.covers(moment)

    def passes(self, moment: datetime) -> bool:
        """Say whether a message that is sent and read at this moment goes through, with its MDN."""
        return not self.waits(moment) and not any(check.failure(moment, moment) for check in self.checks)

    def send(self, number: int) -> DisruptedMessage | None:
        """Send one message, as often as it takes; return what went wrong, or None."""
        created = moment = self.created(number)
        failures, delivered = list[FailedAttempt](), list[datetime]()
        for attempt, wait in enumerate((*self.traffic.retries, None)):
            if self.pause and self.pause.covers(moment):
                if self.pause.ends is None:
                    return self.mishap(created, failures, delivered, stuck=True)
                moment = self.pause.ends
            arrives = moment + self.traffic.transit
            failure = next(filter(None, (check.failure(moment, arrives) for check in self.to_receiver)), None)
            back = arrives + self.traffic.transit
            if failure is None:
                delivered.append(arrives)
                signed, back = self.answered(number, attempt, arrives)
                failure = self.to_sender.failure(signed, back) if self.to_sender else None
            if failure is None:
                return self.mishap(created, failures, delivered, acknowledged=back) if failures else None
            failures.append(failure)
            if wait is not None:
                moment = back + wait
        return self.mishap(created, failures, delivered)

    def answered(self, number: int, attempt: int, arrives: datetime) -> tuple[datetime, datetime]:
        """Say when the MDN of a processed message is signed, and when it arrives at the sender."""
        random = _seeded_random(f"{self.seed}/{number}/{attempt}")
        if random.random() < 0.5:
            return arrives, arrives + self.traffic.transit
        delay = self.traffic.mdn_delay * random.random()
        return arrives + delay * random.random(), arrives + delay + self.traffic.transit

    def mishap(
        self,
        created: datetime,
        failures: list[FailedAttempt],
        delivered: list[datetime],
        *,
        acknowledged: datetime | None = None,
        stuck: bool = False,
    ) -> DisruptedMessage:
        return DisruptedMessage(
            created,
            self.outbound,
            self.system,
            self.party,
            tuple(failures),
            tuple(delivered),
            acknowledged,
            stuck,
        )


def _queue_sides(system: System, party: Party, *, outbound: bool) -> tuple[str, ...]:
    return (
        (our_side(system.key), our_side_to(system.key, party.key)) if outbound else (partner_side(party.key),)
    )


def _seeded_random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - nothing to guess here: the same seed must give the same messages
