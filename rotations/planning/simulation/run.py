"""Simulate a plan: both stations of each partnership, and their messages meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rotations.planning import rules
from rotations.planning.change import Act, CertificateChange, PlannedStep, Role
from rotations.planning.rules import NEW, OLD
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour
from rotations.planning.simulation.stations import CertificateSlot, CertificateValidity
from rotations.planning.simulation.timeline import (
    NOT_STARTED,
    Progress,
    QueuePause,
    StepRun,
    Timeline,
    build_timeline,
)
from rotations.planning.simulation.traffic import DisruptedMessage, FlowResult, Traffic, message_flows
from rotations.planning.simulation.verdict import TimeSpan, rule_violations

TRAFFIC_LEAD = timedelta(hours=1)
"""How long before the first step the traffic begins."""
TRAFFIC_TAIL = timedelta(hours=3)
"""How long after the last step the traffic ends."""

DEFAULT_TRAFFIC = Traffic()
ALWAYS_VALID = CertificateValidity()


@dataclass(frozen=True)
class CertificateUsage:
    """A time in which a place held the `certificate` "old" or "new"; None stands for an open beginning or end.

    `place` is its name in sentences.
    """

    place: str
    at: str
    role: Role
    reads: bool
    certificate: str
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class SimulationResult:
    """The result of a simulated plan, and of the messages meanwhile.

    `flows` has one entry per direction and partnership. `violations` are the sentences about broken rules, by the plan
    itself or by its execution.
    """

    flows: tuple[FlowResult, ...]
    step_runs: tuple[StepRun, ...]
    pauses: Mapping[str, QueuePause]
    usages: tuple[CertificateUsage, ...]
    violations: tuple[str, ...]
    span: TimeSpan

    @property
    def disrupted(self) -> tuple[DisruptedMessage, ...]:
        """All messages that were not delivered at the first attempt."""
        return tuple(message for flow in self.flows for message in flow.disrupted)

    @property
    def messages(self) -> int:
        """The number of messages, both ways, not counting retries."""
        return sum(flow.messages for flow in self.flows)

    @property
    def rejected(self) -> int:
        """The number of messages that were rejected at least once."""
        return sum(message.rejected for message in self.disrupted)

    @property
    def lost(self) -> int:
        """The number of messages that were never processed although their retries have run out."""
        return sum(message.lost for message in self.disrupted)

    @property
    def twice(self) -> int:
        """The number of messages that were processed more than once."""
        return sum(message.twice for message in self.disrupted)

    @property
    def made(self) -> bool:
        """Whether our side made the whole change in its window."""
        return all(h.done is not None for h in self.step_runs if h.step.act is Act.CUT_OVER)

    @property
    def waited(self) -> int:
        """The number of messages that waited in a paused queue."""
        return sum(flow.waited for flow in self.flows)

    @property
    def stuck(self) -> int:
        """The number of messages in a queue that is never released."""
        return sum(message.stuck for message in self.disrupted)


def simulate(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour = AS_PLANNED,
    *,
    traffic: Traffic = DEFAULT_TRAFFIC,
    validity: CertificateValidity = ALWAYS_VALID,
    progress: Progress = NOT_STARTED,
) -> SimulationResult:
    """Carry out the steps of a change with a behaviour, while messages flow.

    The steps are those of `rotations.planning.plan.plan(change)`, or others, to see the consequences. The same
    arguments always give the same result. All datetimes are aware and in UTC. Messages flow until some hours after the
    last step; if our side misses its window, until some hours after that.
    """
    timeline = build_timeline(change, steps, behaviour, progress)
    span = _traffic_span(timeline, validity, progress)
    flows = tuple(flow.run() for flow in message_flows(timeline, traffic, validity, span))
    disrupted = [message for flow in flows for message in flow.disrupted]
    return SimulationResult(
        flows=flows,
        step_runs=timeline.step_runs,
        pauses=timeline.pauses,
        usages=tuple(_usage_history(timeline)),
        violations=(*rules.violations(change, steps), *rule_violations(timeline, steps, disrupted, span)),
        span=span,
    )


def _traffic_span(timeline: Timeline, validity: CertificateValidity, progress: Progress) -> TimeSpan:
    """Return begin and end of the traffic, whatever was done already."""
    change = timeline.change
    settled = set(progress.done.values())
    ahead = [change.now, *(moment for moment in timeline.moments if moment not in settled)]
    begins, ends = min(ahead) - TRAFFIC_LEAD, [*ahead, change.last_end]
    # If our side missed its window, an operator decides what comes next.
    if all(h.done is not None for h in timeline.step_runs if h.step.act is Act.CUT_OVER):
        ends.append(change.last_end + change.grace)
        # Show what happens if the old certificate is still held when it expires.
        if validity.old_until and any(OLD in history.states[-1] for history in timeline.histories.values()):
            ends.append(validity.old_until)
    return begins, max(ends) + TRAFFIC_TAIL


def _usage_history(timeline: Timeline) -> Iterator[CertificateUsage]:
    for slot, history in timeline.histories.items():
        for certificate in (OLD, NEW):
            spans = [(since, until) for since, until, held in history.spans() if certificate in held]
            for since, until in _join_spans(spans):
                yield _usage(slot, certificate, since, until)


def _usage(slot: CertificateSlot, certificate: str, since: datetime | None, until: datetime | None) -> CertificateUsage:
    place = slot.place
    return CertificateUsage(slot.name, place.at, place.role, place.reads, certificate, since, until)


def _join_spans(
    spans: list[tuple[datetime | None, datetime | None]],
) -> Iterator[tuple[datetime | None, datetime | None]]:
    """Join spans of which one begins where the other ends."""
    joined = list[tuple[datetime | None, datetime | None]]()
    for since, until in spans:
        if joined and joined[-1][1] == since:
            joined[-1] = (joined[-1][0], until)
        else:
            joined.append((since, until))
    yield from joined
