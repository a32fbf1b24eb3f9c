"""The tables of states, and what is derived from them."""

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from rotations.errors import IllegalTransition
from rotations.planning.states import (
    AWAITING_WINDOW,
    ENDED,
    ROTATION_CHOICES,
    ROTATION_MEANING,
    ROTATION_TABLE,
    SETTLED,
    STEP_CHOICES,
    STEP_MEANING,
    STEP_TABLE,
    RotationAction,
    RotationState,
    StepAction,
    StepState,
    actions_from,
    draw_diagram,
    is_overdue,
    needs_attention,
    next_state,
    render_page,
)

STARTS = datetime(2026, 11, 25, 4, tzinfo=UTC)
ENDS = datetime(2026, 11, 25, 5, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)

ROTATION_TRANSITIONS = {
    ("draft", "edit"): "draft",
    ("draft", "approve"): "exchanging",
    ("draft", "cancel"): "cancelled",
    ("draft", "emergency"): "exchanging",
    ("exchanging", "ready"): "scheduled",
    ("exchanging", "withdraw_the_approval"): "exchanging",
    ("exchanging", "approve_again"): "exchanging",
    ("exchanging", "postpone"): "exchanging",
    ("exchanging", "move_one_partner"): "exchanging",
    ("exchanging", "begin"): "under_way",
    ("exchanging", "emergency"): "exchanging",
    ("exchanging", "retry"): "exchanging",
    ("exchanging", "cancel"): "cancelled",
    ("scheduled", "unready"): "exchanging",
    ("scheduled", "withdraw_the_approval"): "exchanging",
    ("scheduled", "postpone"): "exchanging",
    ("scheduled", "move_one_partner"): "scheduled",
    ("scheduled", "begin"): "under_way",
    ("scheduled", "emergency"): "exchanging",
    ("scheduled", "retry"): "scheduled",
    ("scheduled", "cancel"): "cancelled",
    ("under_way", "finish"): "applied",
    ("under_way", "withdraw_the_approval"): "under_way",
    ("under_way", "approve_again"): "under_way",
    ("under_way", "postpone"): "under_way",
    ("under_way", "move_one_partner"): "under_way",
    ("under_way", "take_one_partner_back"): "under_way",
    ("under_way", "emergency"): "under_way",
    ("under_way", "retry"): "under_way",
    ("under_way", "roll_back"): "rolling_back",
    ("applied", "close"): "closed",
    ("applied", "take_one_partner_back"): "under_way",
    ("applied", "emergency"): "applied",
    ("applied", "retry"): "applied",
    ("applied", "roll_back"): "rolling_back",
    ("rolling_back", "rolled_back"): "cancelled",
    ("rolling_back", "retry"): "rolling_back",
}
STEP_TRANSITIONS = {
    ("waiting", "claim"): "running",
    ("waiting", "fail"): "failed",
    ("waiting", "complete_by_hand"): "done",
    ("waiting", "skip"): "skipped",
    ("running", "finish"): "done",
    ("running", "retry_later"): "waiting",
    ("running", "fail"): "failed",
    ("running", "give_up"): "failed",
    ("running", "reopen"): "running",
    ("failed", "retry"): "waiting",
    ("failed", "complete_by_hand"): "done",
    ("failed", "skip"): "skipped",
}


@pytest.mark.parametrize(("state", "action"), list(product(RotationState, RotationAction)))
def test_a_rotation_has_exactly_these_transitions(state: RotationState, action: RotationAction) -> None:
    expected = ROTATION_TRANSITIONS.get((state.value, action.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            next_state(state, action)
    else:
        assert next_state(state, action) is RotationState(expected)


@pytest.mark.parametrize(("state", "action"), list(product(StepState, StepAction)))
def test_a_step_has_exactly_these_transitions(state: StepState, action: StepAction) -> None:
    expected = STEP_TRANSITIONS.get((state.value, action.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            next_state(state, action)
    else:
        assert next_state(state, action) is StepState(expected)


def test_a_refusal_names_the_state_the_action_and_what_is_possible_instead() -> None:
    with pytest.raises(IllegalTransition) as refused:
        next_state(RotationState.UNDER_WAY, RotationAction.CANCEL)
    assert str(refused.value) == (
        'This rotation is under way: "cancel" is not possible. Possible now: finish, postpone, '
        "move one partner, take one partner back, retry, roll back, emergency, withdraw the approval, approve again."
    )
    assert refused.value.state is RotationState.UNDER_WAY
    assert refused.value.action is RotationAction.CANCEL
    assert refused.value.possible == (
        "finish",
        "postpone",
        "move_one_partner",
        "take_one_partner_back",
        "retry",
        "roll_back",
        "emergency",
        "withdraw_the_approval",
        "approve_again",
    )


def test_a_refusal_at_the_end_says_that_it_has_ended() -> None:
    with pytest.raises(IllegalTransition, match=r'This step is done: "claim" is not possible\. It has ended\.'):
        next_state(StepState.DONE, StepAction.CLAIM)


def test_actions_of_steps_and_rotations_are_distinct() -> None:
    assert next_state(RotationState.APPLIED, RotationAction.RETRY) is RotationState.APPLIED
    with pytest.raises(IllegalTransition, match='This rotation is applied: "retry" is not possible'):
        next_state(RotationState.APPLIED, StepAction.RETRY)  # type: ignore[call-overload]


@pytest.mark.parametrize("state", RotationState)
def test_every_offered_action_of_a_rotation_is_possible(state: RotationState) -> None:
    assert [action for action in actions_from(state) if next_state(state, action)] == list(actions_from(state))


@pytest.mark.parametrize("state", StepState)
def test_every_offered_action_of_a_step_is_possible(state: StepState) -> None:
    assert [action for action in actions_from(state) if next_state(state, action)] == list(actions_from(state))


def test_nothing_was_cut_over_in_a_rotation_that_can_still_be_cancelled() -> None:
    cancellable = {state for state in RotationState if RotationAction.CANCEL in actions_from(state)}
    assert cancellable == {RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED}


def test_a_rotation_that_has_ended_stays_as_it_is() -> None:
    assert {RotationState.CLOSED, RotationState.CANCELLED} == ENDED
    assert all(actions_from(state) == () for state in ENDED)


def test_steps_behind_a_settled_step_go_on() -> None:
    assert {StepState.DONE, StepState.SKIPPED} == SETTLED
    assert all(actions_from(state) == () for state in SETTLED)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {RotationState.DRAFT}
    for _ in RotationState:
        reached |= {next_state(state, action) for state in reached for action in actions_from(state)}
    assert reached == set(RotationState)
    for state in set(RotationState) - ENDED:
        assert any(next_state(state, action) is not state for action in actions_from(state))


def test_every_action_has_a_transition_and_a_meaning() -> None:
    assert {action for row in ROTATION_TABLE.values() for action in row} == set(RotationAction)
    assert {action for row in STEP_TABLE.values() for action in row} == set(StepAction)
    assert set(ROTATION_MEANING) == set(RotationAction)
    assert set(STEP_MEANING) == set(StepAction)


def test_choices_have_readable_labels() -> None:
    assert ("under_way", "under way") in ROTATION_CHOICES
    assert ("rolling_back", "rolling back") in ROTATION_CHOICES
    assert [value for value, _ in STEP_CHOICES] == ["waiting", "running", "done", "failed", "skipped"]


@pytest.mark.parametrize("state", RotationState)
def test_only_an_approved_rotation_that_is_not_applied_becomes_overdue(state: RotationState) -> None:
    assert is_overdue(state, ENDS, ENDS) == (state in AWAITING_WINDOW)


def test_a_rotation_is_overdue_from_the_end_of_its_window_on() -> None:
    assert not is_overdue(RotationState.SCHEDULED, ENDS, ENDS - MOMENT)
    assert is_overdue(RotationState.SCHEDULED, ENDS, ENDS)


def test_without_a_window_nothing_is_overdue() -> None:
    assert not is_overdue(RotationState.EXCHANGING, None, ENDS)


def attention(state: RotationState, *steps: StepState, now: datetime = STARTS - MOMENT) -> bool:
    return needs_attention(state, steps, window_start=STARTS, window_end=ENDS, now=now)


def test_a_failed_step_needs_a_person() -> None:
    assert attention(RotationState.UNDER_WAY, StepState.DONE, StepState.FAILED)
    assert not attention(RotationState.UNDER_WAY, StepState.DONE, StepState.RUNNING, StepState.SKIPPED)


def test_a_window_that_opens_before_everybody_is_ready_needs_a_person() -> None:
    assert not attention(RotationState.EXCHANGING, now=STARTS - MOMENT)
    assert attention(RotationState.EXCHANGING, now=STARTS)
    assert not attention(RotationState.SCHEDULED, now=STARTS)


def test_a_window_that_is_over_needs_a_person() -> None:
    assert not attention(RotationState.UNDER_WAY, now=ENDS - MOMENT)
    assert attention(RotationState.UNDER_WAY, now=ENDS)


def test_a_failed_step_of_an_ended_rotation_needs_nobody() -> None:
    assert not attention(RotationState.CANCELLED, StepState.FAILED, now=ENDS)
    assert not attention(RotationState.CLOSED, StepState.FAILED, now=ENDS)


def test_a_failed_step_needs_a_person_while_rolling_back_and_after_applying() -> None:
    assert attention(RotationState.ROLLING_BACK, StepState.FAILED)
    assert attention(RotationState.APPLIED, StepState.FAILED)


def test_the_diagram_has_an_arrow_for_every_transition() -> None:
    picture = draw_diagram(STEP_TABLE)
    assert picture.startswith("stateDiagram-v2\n    [*] --> waiting\n")
    assert picture.count("-->") == len(STEP_TRANSITIONS) + 1 + len(SETTLED)
    assert "    running --> waiting: retry later\n" in picture


def test_the_documentation_matches_the_tables() -> None:
    written = Path(__file__).resolve().parents[3] / "docs" / "states.md"
    assert written.read_text(encoding="utf-8") == render_page(), (
        "Run: python -m rotations.planning.states > docs/states.md"
    )
