"""The runbook of a page: steps that several partners take alike are grouped into one line with its progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from rotations.execution import preconditions
from rotations.models import Participant, Rotation, Step
from rotations.models.readiness import Readiness, find_readiness, open_preparations
from rotations.planning.change import PREPARATION_ACTS, Act
from rotations.planning.states import SETTLED, StepState

#: Steps of this many partners or more become one group.
MIN_GROUP_SIZE = 2
#: A group of more steps than this shows only the first few of them, those that need a person first.
MAX_GROUP_SHOWN = 60
MAX_OF_LARGE_GROUP = 10


@dataclass(frozen=True)
class StepGroup:
    """One line of the runbook: a single step, or the same step of several partners."""

    key: str
    title: str
    steps: tuple[Step, ...]
    tally: str

    @property
    def step(self) -> Step | None:
        """Return the only step; None for a group of several."""
        return self.steps[0] if len(self.steps) == 1 else None

    @property
    def first(self) -> Step:
        """Return the first step that is not settled, or else the first one."""
        return next((step for step in self.steps if step.state not in SETTLED), self.steps[0])

    @property
    def last_done(self) -> datetime | None:
        return max((step.done_at for step in self.steps if step.done_at), default=None)

    @property
    def count(self) -> int:
        return len(self.steps)

    @property
    def shown(self) -> Sequence[Step]:
        """Return the steps that the page lists: all, or of many the failed, running and open ones first."""
        if len(self.steps) <= MAX_GROUP_SHOWN:
            return self.steps
        order = (StepState.FAILED, StepState.RUNNING, StepState.WAITING, StepState.DONE, StepState.SKIPPED)
        by_need = sorted(self.steps, key=lambda step: (order.index(StepState(step.state)), step.blocked))
        return by_need[:MAX_OF_LARGE_GROUP]

    @property
    def left_out(self) -> int:
        """Return how many steps the page does not list."""
        return len(self.steps) - len(self.shown)

    @property
    def state(self) -> str:
        """Return the state of the whole group: failed, running, done, part or waiting."""
        states = {step.state for step in self.steps}
        for state in (StepState.FAILED, StepState.RUNNING):
            if state in states:
                return str(state)
        if states <= SETTLED:
            return str(StepState.DONE)
        return "part" if states & SETTLED else str(StepState.WAITING)


@dataclass(frozen=True)
class GroupSummary:
    """A group of a runbook without its steps, except those that the page lists, by their primary keys."""

    key: str
    title: str
    tally: str
    state: str
    count: int
    last_done: datetime | None
    first_pk: int
    shown_pks: tuple[int, ...]

    #: The loaded steps, set by ``load``.
    steps: tuple[Step, ...] = ()

    @property
    def first(self) -> Step:
        return next(step for step in self.steps if step.pk == self.first_pk)

    @property
    def step(self) -> Step | None:
        """Return the only step; None for a group of several."""
        return self.first if self.count == 1 else None

    @property
    def shown(self) -> list[Step]:
        return [step for step in self.steps if step.pk in self.shown_pks]

    @property
    def left_out(self) -> int:
        return self.count - len(self.shown_pks)

    def load(self, steps: Mapping[int, Step]) -> GroupSummary:
        """Return the group with its listed steps, from steps by primary key."""
        pks = dict.fromkeys((self.first_pk, *self.shown_pks))
        return replace(self, steps=tuple(steps[pk] for pk in pks if pk in steps))

    @classmethod
    def of(cls, group: StepGroup) -> GroupSummary:
        shown = tuple(step.pk for step in group.shown)
        return cls(
            group.key, group.title, group.tally, group.state, group.count, group.last_done, group.first.pk, shown
        )


def group_steps(rotation: Rotation, steps: Iterable[Step]) -> list[StepGroup]:
    """Return the groups of a runbook in the order of their steps."""
    groups: list[StepGroup] = []
    for (act, together, by_partner), group in groupby(steps, key=_group_key):
        members = tuple(group)
        if by_partner and len(members) >= MIN_GROUP_SIZE:
            key = f"{act}{'-together' if together else ''}"
            groups.append(StepGroup(key, _group_title(rotation, act, members), members, _tally(act, members)))
        else:
            groups += [StepGroup(step.key, step.title, (step,), "") for step in members]
    return groups


def _group_key(step: Step) -> tuple[str, bool, bool]:
    return step.act, step.simultaneous, step.participant_id is not None


def _group_title(rotation: Rotation, act: str, steps: Sequence[Step]) -> str:
    old = rotation.old.short_name if rotation.old else "the old certificate"
    new = rotation.new.short_name if rotation.new else "the new certificate"
    match act:
        case Act.CHECK:
            return f"Compare the SHA-256 of {new} over another channel"
        case Act.ANNOUNCE:
            return f"Send {new} with its SHA-256 to {len(steps)} partners"
        case Act.INSTALL:
            return f"Partners add {new} beside {old}"
        case Act.AGREE:
            return "Partners agree to the window"
        case Act.CUT_OVER:
            return f"Sign to each partner with {new}"
        case Act.HOLD:
            return f"Pause our outbound queues to {len(steps)} partners"
        case Act.RELEASE:
            return f"Release our outbound queues to {len(steps)} partners"
        case Act.PARTNER_CUT_OVER:
            return f"Partners switch to {new}"
        case Act.TEST:
            return "Exchange test messages with each partner"
        case Act.PARTNER_RETIRE:
            return f"Partners drop {old}"
        case _:
            return f"{steps[0].title} and {len(steps) - 1} more"


#: What a finished step of an act is called in a tally.
_DONE: dict[str, str] = {
    Act.CHECK: "compared",
    Act.ANNOUNCE: "sent",
    Act.AGREE: "agreed",
    Act.CUT_OVER: "changed over",
    Act.TEST: "tested",
    Act.PARTNER_RETIRE: "dropped",
}


def _tally(act: str, steps: Sequence[Step]) -> str:
    counts = Counter(_step_state_text(act, step) for step in steps)
    order = (
        *("failed", "running", "verified", *_DONE.values(), "done", "unverified"),
        *("outstanding", "waived", "left out", "open"),
    )
    return ", ".join(f"{counts[text]} {text}" for text in order if counts[text])


def _step_state_text(act: str, step: Step) -> str:
    if step.state in (StepState.FAILED, StepState.RUNNING):
        return str(step.state)
    participant = step.participant
    if act in (Act.INSTALL, Act.AGREE) and participant is not None:
        return _answer_text(act, step, participant)
    if step.state == StepState.DONE:
        return _DONE.get(act, "done")
    return "left out" if step.state == StepState.SKIPPED else "open"


def _answer_text(act: str, step: Step, participant: Participant) -> str:
    """Return a partner's readiness as far as this step of it is concerned."""
    if step.state == StepState.SKIPPED and not participant.waived_reason:
        return "left out"
    readiness = find_readiness(participant, [step])
    return _DONE[act] if readiness.is_ready and act == Act.AGREE else readiness.group


def steps_by_participant(steps: Iterable[Step]) -> dict[Participant, list[Step]]:
    """Return the steps of each participant, in the order of the steps."""
    found: dict[Participant, list[Step]] = {}
    for step in steps:
        if step.participant is not None:
            found.setdefault(step.participant, []).append(step)
    return found


def outstanding_participants(steps: Iterable[Step]) -> list[Participant]:
    """Return the participants that are not ready, in the order of the steps, whoever has to do something."""
    by_participant = steps_by_participant(steps).items()
    return [participant for participant, own in by_participant if find_readiness(participant, own).is_outstanding]


def awaited_participants(steps: Iterable[Step]) -> list[Participant]:
    """Return those participants that the change waits for, except those that wait for us, in the order of the steps."""
    return [
        participant
        for participant, own in steps_by_participant(steps).items()
        if open_preparations(participant.rotation, own)
        and find_readiness(participant, own) not in (Readiness.WAITS_FOR_US, Readiness.WAIVED)
    ]


def is_unprepared(steps: Sequence[Step]) -> bool:
    """Return whether a preparation step of ours or of a partner is still open."""
    return any(step.act in PREPARATION_ACTS and step.state not in SETTLED for step in steps)


def settleable_steps(steps: Iterable[Step], *, now: datetime) -> list[Step]:
    """Return those of one rotation's steps that a person may record as done or skip now."""
    ready = [step for step in steps if not step.blocked and (step.earliest_at or now) <= now]
    facts = preconditions.RotationFacts([step.rotation for step in ready[:1]])
    return [step for step in ready if step.state == StepState.FAILED or _is_manual(step, facts, now=now)]


def _is_manual(step: Step, facts: preconditions.RotationFacts, *, now: datetime) -> bool:
    is_ours = step.state == StepState.WAITING and not step.automatic
    return is_ours and not preconditions.obstacle_by_hand(step, facts, now=now)
