"""The states of rotations and steps and the transitions between them, as two tables.

`python -m rotations.planning.states` prints docs/states.md from these tables.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar, overload

from rotations.errors import IllegalTransition

State = TypeVar("State", bound=StrEnum)
Action = TypeVar("Action", bound=StrEnum)


class RotationState(StrEnum):
    """The state of a rotation."""

    DRAFT = "draft"
    EXCHANGING = "exchanging"
    SCHEDULED = "scheduled"
    UNDER_WAY = "under_way"
    APPLIED = "applied"
    ROLLING_BACK = "rolling_back"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class RotationAction(StrEnum):
    """A transition of a rotation, caused by a person or by its steps."""

    EDIT = "edit"
    APPROVE = "approve"
    WITHDRAW = "withdraw_the_approval"
    APPROVE_AGAIN = "approve_again"
    READY = "ready"
    UNREADY = "unready"
    POSTPONE = "postpone"
    BEGIN = "begin"
    FINISH = "finish"
    RETRY = "retry"
    MOVE_ONE = "move_one_partner"
    TAKE_BACK_ONE = "take_one_partner_back"
    EMERGENCY = "emergency"
    ROLL_BACK = "roll_back"
    ROLLED_BACK = "rolled_back"
    CLOSE = "close"
    CANCEL = "cancel"


class StepState(StrEnum):
    """The state of a step; a failed one needs a person."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class StepAction(StrEnum):
    """A transition of a step, caused by a worker or by a person."""

    CLAIM = "claim"
    REOPEN = "reopen"
    FINISH = "finish"
    RETRY_LATER = "retry_later"
    FAIL = "fail"
    GIVE_UP = "give_up"
    RETRY = "retry"
    COMPLETE_BY_HAND = "complete_by_hand"
    SKIP = "skip"


ROTATION_TABLE: Mapping[RotationState, Mapping[RotationAction, RotationState]] = {
    RotationState.DRAFT: {
        RotationAction.EDIT: RotationState.DRAFT,
        RotationAction.APPROVE: RotationState.EXCHANGING,
        RotationAction.CANCEL: RotationState.CANCELLED,
        RotationAction.EMERGENCY: RotationState.EXCHANGING,
    },
    RotationState.EXCHANGING: {
        RotationAction.READY: RotationState.SCHEDULED,
        RotationAction.POSTPONE: RotationState.EXCHANGING,
        RotationAction.MOVE_ONE: RotationState.EXCHANGING,
        RotationAction.BEGIN: RotationState.UNDER_WAY,
        RotationAction.RETRY: RotationState.EXCHANGING,
        RotationAction.CANCEL: RotationState.CANCELLED,
        RotationAction.EMERGENCY: RotationState.EXCHANGING,
        RotationAction.WITHDRAW: RotationState.EXCHANGING,
        RotationAction.APPROVE_AGAIN: RotationState.EXCHANGING,
    },
    RotationState.SCHEDULED: {
        RotationAction.UNREADY: RotationState.EXCHANGING,
        RotationAction.POSTPONE: RotationState.EXCHANGING,
        RotationAction.MOVE_ONE: RotationState.SCHEDULED,
        RotationAction.BEGIN: RotationState.UNDER_WAY,
        RotationAction.RETRY: RotationState.SCHEDULED,
        RotationAction.CANCEL: RotationState.CANCELLED,
        RotationAction.EMERGENCY: RotationState.EXCHANGING,
        RotationAction.WITHDRAW: RotationState.EXCHANGING,
    },
    RotationState.UNDER_WAY: {
        RotationAction.FINISH: RotationState.APPLIED,
        RotationAction.POSTPONE: RotationState.UNDER_WAY,
        RotationAction.MOVE_ONE: RotationState.UNDER_WAY,
        RotationAction.TAKE_BACK_ONE: RotationState.UNDER_WAY,
        RotationAction.RETRY: RotationState.UNDER_WAY,
        RotationAction.ROLL_BACK: RotationState.ROLLING_BACK,
        RotationAction.EMERGENCY: RotationState.UNDER_WAY,
        RotationAction.WITHDRAW: RotationState.UNDER_WAY,
        RotationAction.APPROVE_AGAIN: RotationState.UNDER_WAY,
    },
    RotationState.APPLIED: {
        RotationAction.CLOSE: RotationState.CLOSED,
        RotationAction.TAKE_BACK_ONE: RotationState.UNDER_WAY,
        RotationAction.RETRY: RotationState.APPLIED,
        RotationAction.ROLL_BACK: RotationState.ROLLING_BACK,
        RotationAction.EMERGENCY: RotationState.APPLIED,
    },
    RotationState.ROLLING_BACK: {
        RotationAction.ROLLED_BACK: RotationState.CANCELLED,
        RotationAction.RETRY: RotationState.ROLLING_BACK,
    },
    RotationState.CLOSED: {},
    RotationState.CANCELLED: {},
}

STEP_TABLE: Mapping[StepState, Mapping[StepAction, StepState]] = {
    StepState.WAITING: {
        StepAction.CLAIM: StepState.RUNNING,
        StepAction.FAIL: StepState.FAILED,
        StepAction.COMPLETE_BY_HAND: StepState.DONE,
        StepAction.SKIP: StepState.SKIPPED,
    },
    StepState.RUNNING: {
        StepAction.FINISH: StepState.DONE,
        StepAction.RETRY_LATER: StepState.WAITING,
        StepAction.FAIL: StepState.FAILED,
        StepAction.GIVE_UP: StepState.FAILED,
        StepAction.REOPEN: StepState.RUNNING,
    },
    StepState.FAILED: {
        StepAction.RETRY: StepState.WAITING,
        StepAction.COMPLETE_BY_HAND: StepState.DONE,
        StepAction.SKIP: StepState.SKIPPED,
    },
    StepState.DONE: {},
    StepState.SKIPPED: {},
}

ROTATION_MEANING: Mapping[RotationAction, str] = {
    RotationAction.EDIT: "somebody changes the draft",
    RotationAction.APPROVE: "somebody with the right to approve does so",
    RotationAction.WITHDRAW: "under four eyes, somebody changes what was approved: no further step is carried out",
    RotationAction.APPROVE_AGAIN: "somebody who has not changed the plan since approves it as it is now",
    RotationAction.READY: "every participant has confirmed, agreed or been waived, no objection is undecided, "
    "staging is done, "
    "where a rehearsal is asked for, it has passed or was waived, and the approval stands",
    RotationAction.UNREADY: "a confirmation, a staged certificate or the rehearsal was taken back, or a partner "
    "declined or proposed another time",
    RotationAction.POSTPONE: "the window moves, for the remaining cut-overs; partners have to agree again",
    RotationAction.MOVE_ONE: "where we sign per partner, one of them gets a window of its own, and is asked again",
    RotationAction.BEGIN: "the first cut-over is made; where we sign per partner, others may not be ready yet",
    RotationAction.FINISH: "our cut-overs are done, the default last, or the partners' where nothing of ours switches",
    RotationAction.RETRY: "somebody retries a failed step",
    RotationAction.TAKE_BACK_ONE: "where we sign per partner, one goes back alone, and waits for another window",
    RotationAction.EMERGENCY: "the old key may be known to others: everything changes at once, without waiting",
    RotationAction.ROLL_BACK: "the writers go back to the old certificate",
    RotationAction.ROLLED_BACK: "the writers use the old certificate again",
    RotationAction.CLOSE: "nothing is left to do",
    RotationAction.CANCEL: "no writer of ours was cut over, and none will be",
}

STEP_MEANING: Mapping[StepAction, str] = {
    StepAction.CLAIM: "a worker claims it, with a lease",
    StepAction.REOPEN: "its lease has expired: another worker claims it, and reads before it writes",
    StepAction.FINISH: "it is carried out, and verified by reading back",
    StepAction.RETRY_LATER: "it did not work yet: it becomes due again later",
    StepAction.FAIL: "it did not work, and a retry would not either",
    StepAction.GIVE_UP: "it has used up its attempts, or its window is over",
    StepAction.RETRY: "somebody retries it",
    StepAction.COMPLETE_BY_HAND: "somebody records that it is done, and on what evidence",
    StepAction.SKIP: "somebody skips it, with a reason",
}

ENDED = frozenset(state for state, actions in ROTATION_TABLE.items() if not actions)
"""States in which a rotation has nothing left to do."""
SETTLED = frozenset({StepState.DONE, StepState.SKIPPED})
"""States of a step in which the steps after it may start."""
AWAITING_WINDOW = frozenset({RotationState.EXCHANGING, RotationState.SCHEDULED, RotationState.UNDER_WAY})
"""States of an approved rotation whose cut-overs are not all made."""


def label(value: str) -> str:
    """Return the name of a state or an action as words."""
    return value.replace("_", " ")


ROTATION_CHOICES = [(state.value, label(state)) for state in RotationState]
STEP_CHOICES = [(state.value, label(state)) for state in StepState]


@overload
def next_state(state: RotationState, action: RotationAction) -> RotationState: ...
@overload
def next_state(state: StepState, action: StepAction) -> StepState: ...
def next_state(state: RotationState | StepState, action: RotationAction | StepAction) -> RotationState | StepState:
    """Return the state that the action leads to. Raises IllegalTransition if it is not possible in this state."""
    # Rotations and steps have actions of the same name, such as "retry", which compare equal: check the types.
    if isinstance(state, RotationState) and isinstance(action, RotationAction):
        following: RotationState | StepState | None = ROTATION_TABLE[state].get(action)
    elif isinstance(state, StepState) and isinstance(action, StepAction):
        following = STEP_TABLE[state].get(action)
    else:
        following = None
    if following is not None:
        return following
    possible = actions_from(state)
    thing = "rotation" if isinstance(state, RotationState) else "step"
    instead = f"Possible now: {', '.join(map(label, possible))}." if possible else "It has ended."
    raise IllegalTransition(
        f'This {thing} is {label(state)}: "{label(action)}" is not possible. {instead}',
        state=state,
        action=action,
        possible=possible,
    )


@overload
def actions_from(state: RotationState) -> tuple[RotationAction, ...]: ...
@overload
def actions_from(state: StepState) -> tuple[StepAction, ...]: ...
def actions_from(state: RotationState | StepState) -> tuple[RotationAction, ...] | tuple[StepAction, ...]:
    """Return the actions that are possible in this state."""
    if isinstance(state, RotationState):
        return tuple(ROTATION_TABLE[state])
    return tuple(STEP_TABLE[state])


def is_overdue(state: RotationState, window_end: datetime | None, now: datetime) -> bool:
    """Return whether the window is over before every cut-over was made."""
    return state in AWAITING_WINDOW and window_end is not None and window_end <= now


def needs_attention(
    state: RotationState,
    step_states: Iterable[StepState],
    *,
    window_start: datetime | None,
    window_end: datetime | None,
    now: datetime,
) -> bool:
    """Return whether a person has to decide something before this rotation can go on.

    That is so if a step has failed, if the window opens before everybody is ready, and once it is over.
    """
    if state in ENDED:
        return False
    unready = state is RotationState.EXCHANGING and window_start is not None and window_start <= now
    return unready or is_overdue(state, window_end, now) or StepState.FAILED in step_states


def draw_diagram(table: Mapping[State, Mapping[Action, State]]) -> str:
    """Return a transition table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table))}"]
    for state, actions in table.items():
        lines += [f"    {state} --> {following}: {label(action)}" for action, following in actions.items()]
        if not actions:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


def format_meanings(meaning: Mapping[Action, str]) -> str:
    """Return the meanings of actions as a Markdown table."""
    rows = [f"| {label(action)} | {text} |" for action, text in meaning.items()]
    return "\n".join(["| action | happens when |", "|---|---|", *rows])


def render_page() -> str:
    """Return the content of docs/states.md."""
    return PAGE_TEMPLATE.format(
        rotation_picture=draw_diagram(ROTATION_TABLE),
        rotation_actions=format_meanings(ROTATION_MEANING),
        step_picture=draw_diagram(STEP_TABLE),
        step_actions=format_meanings(STEP_MEANING),
    )


PAGE_TEMPLATE = """\
# States

Drawn from the tables in `rotations/planning/states.py` by `python -m rotations.planning.states > docs/states.md`.
Every other transition is refused.

## A rotation

```mermaid
{rotation_picture}
```

{rotation_actions}

## A step

```mermaid
{step_picture}
```

{step_actions}

## Derived, not stored

*Overdue*: the window is over, and an approved rotation is not applied.

*Needs attention*: a step has failed, the window has opened while partners are still outstanding (unless each changes
when it is ready), the rotation is overdue, or its approval is withdrawn.

*Withdrawn* is not a state of its own: partners can still answer, and running steps finish. But no further step is
carried out, whatever the state of the rotation, until somebody else has approved it again.
"""

if __name__ == "__main__":
    sys.stdout.write(render_page())
