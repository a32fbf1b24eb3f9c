"""Messages and their MDNs between one system of ours and one partner, in one direction.

A message is encrypted and signed with the certificates that its sender uses when it is sent, and read with those that
the receiver holds when it arrives; its MDN likewise, in the other direction. A message without an MDN is encrypted,
signed and sent again until its retries run out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise, product
from random import Random

from rotations.planning.change import Party, Role, System, our_side, our_side_to, partner_side
from rotations.planning.simulation.stations import CertificateValidity, SlotHistory, SlotPair
from rotations.planning.simulation.timeline import QueuePause, Timeline


class FailureReason(StrEnum):
    """Why an attempt failed: the modifier of the MDN, or that the MDN itself could not be verified."""

    AUTHENTICATION_FAILED = "authentication-failed"
    DECRYPTION_FAILED = "decryption-failed"
    MDN_SIGNATURE_FAILED = "MDN signature fails"


MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Traffic:
    """The messages of a simulation: one is sent `every` so often in each direction, and takes `transit` to arrive.

    Half of the MDNs are synchronous, half come up to `mdn_delay` later and are signed some time in between. `retries`
    are the pauses before each further attempt. `seed` varies when exactly messages and MDNs are sent.
    """

    every: timedelta = 5 * MINUTE
    transit: timedelta = timedelta(seconds=2)
    mdn_delay: timedelta = 30 * MINUTE
    retries: tuple[timedelta, ...] = (5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 60 * MINUTE)
    seed: int = 0

    @property
    def life(self) -> timedelta:
        """The longest time from sending a message to reading its MDN."""
        return 2 * self.transit + self.mdn_delay


@dataclass(frozen=True)
class FailedAttempt:
    """One attempt that failed: the reader could not read at `read` what was written at `written`.

    If `expired`, the reader held the certificate, but it was not valid.
    """

    slots: SlotPair
    reason: FailureReason
    written: datetime
    read: datetime
    expired: bool


@dataclass(frozen=True)
class DisruptedMessage:
    """A message that was not delivered at the first attempt, or was never sent.

    `delivered` has the times at which it was processed, more than one if its MDN did not verify. `acknowledged` is when
    the sender verified an MDN. If `stuck`, its sender's queue is never released.
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
        """Whether the receiver rejected it at least once."""
        return any(failure.reason is not FailureReason.MDN_SIGNATURE_FAILED for failure in self.failures)

    @property
    def lost(self) -> bool:
        """Whether it was never processed, although its retries have run out."""
        return not self.delivered and not self.stuck

    @property
    def twice(self) -> bool:
        """Whether it was processed more than once."""
        return len(self.delivered) > 1


@dataclass(frozen=True)
class FlowResult:
    """The messages of one flow: how many there were, how many waited in a queue, and which were disrupted.

    If `broken`, messages still fail or wait at the end.
    """

    outbound: bool
    system: System
    party: Party
    messages: int
    waited: int
    disrupted: tuple[DisruptedMessage, ...]
    broken: bool

    @property
    def queues(self) -> tuple[str, ...]:
        """Name what may hold its messages, as `Effect.at` spells it: a side as a whole, or ours towards the partner."""
        return _queue_sides(self.system, self.party, outbound=self.outbound)


@dataclass(frozen=True)
class ReadCheck:
    """The check whether what one slot writes can be read with another."""

    slots: SlotPair
    written: SlotHistory
    read: SlotHistory
    reason: FailureReason
    validity: CertificateValidity

    def failure(self, written: datetime, read: datetime) -> FailedAttempt | None:
        """Return the failure of something written and read at these times, or None."""
        certificates = self.written.at(written)
        unknown = not certificates or not certificates <= self.read.at(read)
        if unknown or not all(self.validity.accepts(certificate, read) for certificate in certificates):
            return FailedAttempt(self.slots, self.reason, written, read, expired=not unknown)
        return None

    @property
    def moments(self) -> list[datetime]:
        """The times at which the result can change."""
        return [*self.written.moments, *self.read.moments, *self.validity.moments]


def message_flows(
    timeline: Timeline, traffic: Traffic, validity: CertificateValidity, span: tuple[datetime, datetime]
) -> Iterator["MessageFlow"]:
    """Yield both flows between each system of ours and each partner, with messages created within the span."""
    for sides in product(timeline.change.systems, timeline.change.parties):
        for outbound in (True, False):
            yield MessageFlow(timeline, traffic, validity, span, sides, outbound=outbound)


class MessageFlow:
    """The messages from one side to the other. The same arguments always make the same ones."""

    def __init__(
        self,
        timeline: Timeline,
        traffic: Traffic,
        validity: CertificateValidity,
        span: tuple[datetime, datetime],
        sides: tuple[System, Party],
        *,
        outbound: bool,
    ) -> None:
        self.timeline, self.traffic, self.validity = timeline, traffic, validity
        self.system, self.party = sides
        self.outbound = outbound
        sender, receiver = our_side(self.system.key), partner_side(self.party.key)
        held = [at for at in _queue_sides(self.system, self.party, outbound=outbound) if at in timeline.pauses]
        self.pause: QueuePause | None = timeline.pauses[held[0]] if held else None
        encrypts, signs, acknowledges = (
            (Role.ENCRYPT, Role.SIGN, Role.VERIFY) if outbound else (Role.DECRYPT, Role.VERIFY, Role.SIGN)
        )
        checks = (
            self.check(encrypts, FailureReason.DECRYPTION_FAILED),
            self.check(signs, FailureReason.AUTHENTICATION_FAILED),
        )
        self.to_receiver = [check for check in checks if check is not None]
        self.to_sender = self.check(acknowledges, FailureReason.MDN_SIGNATURE_FAILED, mdns=True)
        self.seed = f"{traffic.seed}/{sender}/{receiver}/{outbound}"
        self.begins, self.ends = span
        self.first = self.begins + traffic.every * _seeded_random(self.seed).random()

    def check(self, role: Role, reason: FailureReason, *, mdns: bool = False) -> ReadCheck | None:
        """Return the check of a role between both sides; None if its certificate does not change."""
        histories = self.timeline.histories
        for pair in self.timeline.slot_pairs:
            if (pair.system, pair.party, pair.role, pair.reader.mdns) == (
                self.system,
                self.party,
                role,
                mdns,
            ):
                return ReadCheck(pair, histories[pair.writer], histories[pair.reader], reason, self.validity)
        return None

    @cached_property
    def checks(self) -> list[ReadCheck]:
        """The checks that a message of this flow and its MDN have to pass."""
        return [*self.to_receiver, *([self.to_sender] if self.to_sender else [])]

    def created(self, number: int) -> datetime:
        """Return when a message is created."""
        return self.first + number * self.traffic.every

    def number_from(self, moment: datetime) -> int:
        """Return the number of the first message that is created at or after a time."""
        return max(0, -((self.first - moment) // self.traffic.every))

    def run(self) -> FlowResult:
        """Send all messages. Those that pass, with no change in their lifetime, are only counted."""
        waited, disrupted = 0, list[DisruptedMessage]()
        for begins, ends in pairwise(self.change_times()):
            calm = ends - self.traffic.life if self.passes(begins) else begins
            since, until = self.number_from(begins), self.number_from(ends)
            for number in range(max(since, self.number_from(calm)), until):
                waited += self.waits(self.created(number))
                message = self.send(number)
                if message is not None:
                    disrupted.append(message)
        count, broken = self.number_from(self.ends), not self.passes(self.ends)
        return FlowResult(self.outbound, self.system, self.party, count, waited, tuple(disrupted), broken)

    def change_times(self) -> list[datetime]:
        """Return begin, end, and the times in between at which the result for a message can change."""
        found = {moment for check in self.checks for moment in check.moments}
        if self.pause:
            found |= {m for m in (self.pause.begins, self.pause.ends) if m is not None}
        return [self.begins, *sorted(m for m in found if self.begins < m < self.ends), self.ends]

    def waits(self, moment: datetime) -> bool:
        """Return whether the sender's queue is paused at this time."""
        return self.pause is not None and self.pause.covers(moment)

    def passes(self, moment: datetime) -> bool:
        """Return whether a message that is sent and read at this time is delivered, and its MDN verified."""
        return not self.waits(moment) and not any(check.failure(moment, moment) for check in self.checks)

    def send(self, number: int) -> DisruptedMessage | None:
        """Send one message and its retries; return it if it was disrupted, else None."""
        created = moment = self.created(number)
        failures, delivered = list[FailedAttempt](), list[datetime]()
        for attempt, wait in enumerate((*self.traffic.retries, None)):
            if self.pause and self.pause.covers(moment):
                if self.pause.ends is None:
                    return self.disrupted(created, failures, delivered, stuck=True)
                moment = self.pause.ends
            arrives = moment + self.traffic.transit
            failure = next(filter(None, (check.failure(moment, arrives) for check in self.to_receiver)), None)
            back = arrives + self.traffic.transit
            if failure is None:
                delivered.append(arrives)
                signed, back = self.mdn_times(number, attempt, arrives)
                failure = self.to_sender.failure(signed, back) if self.to_sender else None
            if failure is None:
                return self.disrupted(created, failures, delivered, acknowledged=back) if failures else None
            failures.append(failure)
            if wait is not None:
                moment = back + wait
        return self.disrupted(created, failures, delivered)

    def mdn_times(self, number: int, attempt: int, arrives: datetime) -> tuple[datetime, datetime]:
        """Return when the MDN of a processed message is signed, and when it arrives."""
        random = _seeded_random(f"{self.seed}/{number}/{attempt}")
        if random.random() < 0.5:
            return arrives, arrives + self.traffic.transit
        delay = self.traffic.mdn_delay * random.random()
        return arrives + delay * random.random(), arrives + delay + self.traffic.transit

    def disrupted(
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
    return (our_side(system.key), our_side_to(system.key, party.key)) if outbound else (partner_side(party.key),)


def _seeded_random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - nothing to guess here: the same seed must give the same messages
