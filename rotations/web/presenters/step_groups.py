"""Fold a runbook: what every partner does alike becomes one line that says how far they have come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from rotations.models import Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepState

#: From how many partners on their steps fold into one line.
MIN_GROUP_SIZE = 2


@dataclass(frozen=True)
class StepGroup:
    """One line of the runbook: a step, or what several partners do alike."""

    key: str
    title: str
    steps: tuple[Step, ...]
    tally: str

    @property
    def step(self) -> Step | None:
        """Return the step where the line is just that."""
        return self.steps[0] if len(self.steps) == 1 else None

    @property
    def first(self) -> Step:
        """Return the step that is next; the first one where all are settled."""
        return next((step for step in self.steps if step.state not in SETTLED), self.steps[0])

    @property
    def last_done(self) -> datetime | None:
        return max((step.done_at for step in self.steps if step.done_at), default=None)

    @property
    def state(self) -> str:
        """Return one word for all: failed, running, done, part, waiting."""
        states = {step.state for step in self.steps}
        for state in (StepState.FAILED, StepState.RUNNING):
            if state in states:
                return str(state)
        if states <= SETTLED:
            return str(StepState.DONE)
        return "part" if states & SETTLED else str(StepState.WAITING)


def group_steps(rotation: Rotation, steps: Iterable[Step]) -> list[StepGroup]:
    """Return the lines of a runbook, in the order of the steps."""
    lines: list[StepGroup] = []
    for (act, together, by_partner), group in groupby(steps, key=_group_key):
        members = tuple(group)
        if by_partner and len(members) >= MIN_GROUP_SIZE:
            key = f"{act}{'-together' if together else ''}"
            lines.append(StepGroup(key, _group_title(rotation, act, members), members, _tally(act, members)))
        else:
            lines += [StepGroup(step.key, step.title, (step,), "") for step in members]
    return lines


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


#: What a step of an act is called once it is done.
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
        "failed",
        "running",
        "confirmed",
        *_DONE.values(),
        "done",
        "weak",
        "waived",
        "left out",
        "silent",
        "open",
    )
    return ", ".join(f"{counts[word]} {word}" for word in order if counts[word])


def _step_state_text(act: str, step: Step) -> str:
    if step.state in (StepState.FAILED, StepState.RUNNING):
        return str(step.state)
    participant = step.participant
    if act == Act.INSTALL and participant is not None:
        return _install_state_text(step, participant)
    if step.state == StepState.DONE:
        return _DONE.get(act, "done")
    return "left out" if step.state == StepState.SKIPPED else "open"


def _install_state_text(step: Step, participant: Participant) -> str:
    if step.state == StepState.SKIPPED:
        return "waived" if participant.waived_reason else "left out"
    if participant.evidence == Participant.Evidence.STRONG:
        return "confirmed"
    if participant.evidence == Participant.Evidence.WEAK or step.state == StepState.DONE:
        return "weak"
    return "silent"
