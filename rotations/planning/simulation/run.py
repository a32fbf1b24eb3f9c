"""Run a plan on paper: both stations of each partnership, and all their messages meanwhile."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rotations.planning import rules
from rotations.planning.change import Act, Change, Role, Step
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour
from rotations.planning.simulation.stations import NEW, OLD, Slot, Validity
from rotations.planning.simulation.timeline import Course, Happening, Pause, run_course
from rotations.planning.simulation.traffic import Mishap, Tally, Traffic, flows_of
from rotations.planning.simulation.verdict import Span, broken_law

BEFORE = timedelta(hours=1)
"""How long before the first step messages begin to flow."""
AFTER = timedelta(hours=3)
"""How long after the last step messages go on."""

TRAFFIC = Traffic()
ANY_TIME = Validity()


@dataclass(frozen=True)
class Used:
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
class Outcome:
    """What became of a plan and of the messages meanwhile.

    `tallies` has one entry per direction and partnership. `violations` says in sentences where the law is broken, by
    the plan itself or by how it went; empty means that it was kept.
    """

    tallies: tuple[Tally, ...]
    happenings: tuple[Happening, ...]
    pauses: Mapping[str, Pause]
    history: tuple[Used, ...]
    violations: tuple[str, ...]
    span: Span

    @property
    def mishaps(self) -> tuple[Mishap, ...]:
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
    change: Change,
    steps: Sequence[Step],
    behaviour: Behaviour = AS_PLANNED,
    *,
    traffic: Traffic = TRAFFIC,
    validity: Validity = ANY_TIME,
    done: Mapping[str, datetime] | None = None,
    skipped: Collection[str] = (),
    seed: int = 0,
) -> Outcome:
    """Carry the steps of the change out as the behaviour lets them happen, while messages flow.

    The steps are those of `rotations.planning.plan.plan(change)`, or others to see what they lead to. `done` maps the
    keys of steps that are done already to when that was, `skipped` holds those of steps that are left out. The same
    arguments always give the same outcome; `seed` varies when exactly messages and MDNs are sent. All moments are aware
    and in UTC. Messages flow until some hours after the last step; where our side misses its window, until after that.
    """
    course = run_course(change, steps, behaviour, done, skipped)
    span = _span(course, validity, done or {})
    tallies = tuple(flow.run() for flow in flows_of(course, traffic, validity, span, seed))
    mishaps = [mishap for tally in tallies for mishap in tally.mishaps]
    return Outcome(
        tallies=tallies,
        happenings=course.happenings,
        pauses=course.pauses,
        history=tuple(_history(course)),
        violations=(*rules.violations(change, steps), *broken_law(course, steps, mishaps, span)),
        span=span,
    )


def _span(course: Course, validity: Validity, done: Mapping[str, datetime]) -> Span:
    """Give begin and end of the traffic; what was done already lies in the past and is of no interest."""
    change = course.change
    settled = set(done.values())
    ahead = [change.now, *(moment for moment in course.moments if moment not in settled)]
    begins, ends = min(ahead) - BEFORE, [*ahead, change.last_end]
    # Where our side missed its window, what comes afterwards is for somebody to decide.
    if all(h.done is not None for h in course.happenings if h.step.act is Act.CUT_OVER):
        ends.append(change.last_end + change.grace)
        # A certificate that is still in use when it ends is worth waiting for.
        if validity.old_until and any(OLD in line.states[-1] for line in course.lines.values()):
            ends.append(validity.old_until)
    return begins, max(ends) + AFTER


def _history(course: Course) -> Iterator[Used]:
    for slot, line in course.lines.items():
        for certificate in (OLD, NEW):
            spans = [(since, until) for since, until, held in line.spans() if certificate in held]
            for since, until in _joined(spans):
                yield _used(slot, certificate, since, until)


def _used(slot: Slot, certificate: str, since: datetime | None, until: datetime | None) -> Used:
    place = slot.place
    return Used(slot.name, place.at, place.role, place.reads, certificate, since, until)


def _joined(
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
