"""Run a plan on paper: both stations of each partnership, and all their messages meanwhile."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rotations.planning import rules
from rotations.planning.change import Act, CertificateChange, PlannedStep, Role
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour
from rotations.planning.simulation.stations import NEW, OLD, CertificateSlot, CertificateValidity
from rotations.planning.simulation.timeline import QueuePause, StepRun, Timeline, build_timeline
from rotations.planning.simulation.traffic import DisruptedMessage, FlowResult, Traffic, message_flows
from rotations.planning.simulation.verdict import TimeSpan, rule_violations

TRAFFIC_LEAD = timedelta(hours=1)
"""How long before the first step messages begin to flow."""
TRAFFIC_TAIL = timedelta(hours=3)
"""How long after the last step messages go on."""

DEFAULT_TRAFFIC = Traffic()
ALWAYS_VALID = CertificateValidity()


@dataclass(frozen=True)
class CertificateUsage:
    """Which certificate a place held, in which role, from when until when: None is "before all" and "ever since".

    `place` is in words. `certificate` is "old" or "new".
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
    """What became of a plan and of the messages meanwhile.

    `tallies` has one entry per direction and partnership. `violations` says in sentences where the law is broken, by
    the plan itself or by how it went; empty means that it was kept.
    """

    tallies: tuple[FlowResult, ...]
    happenings: tuple[StepRun, ...]
    pauses: Mapping[str, QueuePause]
    history: tuple[CertificateUsage, ...]
    violations: tuple[str, ...]
    span: TimeSpan

    @property
    def mishaps(self) -> tuple[DisruptedMessage, ...]:
        """List every message that did not go through at once."""
        return tuple(mishap for tally in self.tallies for mishap in tally.mishaps)

    @property
    def messages(self) -> int:
        """Count all messages, both ways, those of the retries not."""
        return sum(tally.messages for tally in self.tallies)

    @property
    def rejected(self) -> int:
        """Count the messages that were rejected at least once."""
        return sum(mishap.rejected for mishap in self.mishaps)

    @property
    def lost(self) -> int:
        """Count the messages that were never processed although their retries have run out."""
        return sum(mishap.lost for mishap in self.mishaps)

    @property
    def twice(self) -> int:
        """Count the messages that were processed more than once."""
        return sum(mishap.twice for mishap in self.mishaps)

    @property
    def made(self) -> bool:
        """Say whether our side made the whole change in its window."""
        return all(h.done is not None for h in self.happenings if h.step.act is Act.CUT_OVER)

    @property
    def waited(self) -> int:
        """Count the messages that waited in a paused queue."""
        return sum(tally.waited for tally in self.tallies)

    @property
    def stuck(self) -> int:
        """Count the messages that wait in a queue that is never released."""
        return sum(mishap.stuck for mishap in self.mishaps)


def simulate(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour = AS_PLANNED,
    *,
    traffic: Traffic = DEFAULT_TRAFFIC,
    validity: CertificateValidity = ALWAYS_VALID,
    done: Mapping[str, datetime] | None = None,
    skipped: Collection[str] = (),
    seed: int = 0,
) -> SimulationResult:
    """Carry the steps of the change out as the behaviour lets them happen, while messages flow.

    The steps are those of `rotations.planning.plan.plan(change)`, or others to see what they lead to. `done` maps the
    keys of steps that are done already to when that was, `skipped` holds those of steps that are left out. The same
    arguments always give the same outcome; `seed` varies when exactly messages and MDNs are sent. All moments are aware
    and in UTC. Messages flow until some hours after the last step; where our side misses its window, until after that.
    """
    course = build_timeline(change, steps, behaviour, done, skipped)
    span = _traffic_span(course, validity, done or {})
    tallies = tuple(flow.run() for flow in message_flows(course, traffic, validity, span, seed))
    mishaps = [mishap for tally in tallies for mishap in tally.mishaps]
    return SimulationResult(
        tallies=tallies,
        happenings=course.happenings,
        pauses=course.pauses,
        history=tuple(_usage_history(course)),
        violations=(*rules.violations(change, steps), *rule_violations(course, steps, mishaps, span)),
        span=span,
    )


def _traffic_span(course: Timeline, validity: CertificateValidity, done: Mapping[str, datetime]) -> TimeSpan:
    """Give begin and end of the traffic; what was done already lies in the past and is of no interest."""
    change = course.change
    settled = set(done.values())
    ahead = [change.now, *(moment for moment in course.moments if moment not in settled)]
    begins, ends = min(ahead) - TRAFFIC_LEAD, [*ahead, change.last_end]
    # Where our side missed its window, what comes afterwards is for somebody to decide.
    if all(h.done is not None for h in course.happenings if h.step.act is Act.CUT_OVER):
        ends.append(change.last_end + change.grace)
        # A certificate that is still in use when it ends is worth waiting for.
        if validity.old_until and any(OLD in line.states[-1] for line in course.lines.values()):
            ends.append(validity.old_until)
    return begins, max(ends) + TRAFFIC_TAIL


def _usage_history(course: Timeline) -> Iterator[CertificateUsage]:
    for slot, line in course.lines.items():
        for certificate in (OLD, NEW):
            spans = [(since, until) for since, until, held in line.spans() if certificate in held]
            for since, until in _join_spans(spans):
                yield _usage(slot, certificate, since, until)


def _usage(
    slot: CertificateSlot, certificate: str, since: datetime | None, until: datetime | None
) -> CertificateUsage:
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
