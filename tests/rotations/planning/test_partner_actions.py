"""What a partner may do next: states, and the answer to each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rotations.planning.change import Act
from rotations.planning.partner_actions import (
    LEAD_TIME,
    STARTED_BY,
    Answer,
    AskedQuestion,
    ChangeProgress,
    GivenAnswers,
    PartnerAction,
    PartnerSituation,
    Question,
    RequestSituation,
    Successor,
    UsedCertificate,
    WaitReason,
    find_next_action,
    find_request_action,
)
from rotations.planning.states import RotationState

STARTS = datetime(2026, 12, 1, 22, 0, tzinfo=UTC)
ENDS = STARTS + timedelta(hours=1)
BEFORE, NEAR, INSIDE, AFTER = STARTS - timedelta(days=3), STARTS - LEAD_TIME, STARTS + timedelta(minutes=1), ENDS
SECOND = timedelta(seconds=1)


def step(act: str, state: str = "waiting", *, blocked: bool = False, together: bool = False) -> Any:
    return SimpleNamespace(act=act, state=state, blocked=blocked, simultaneous=together, earliest_at=STARTS)


INSTALL, INSTALLED = step(Act.INSTALL), step(Act.INSTALL, "done")
AGREE, AGREED = step(Act.AGREE), step(Act.AGREE, "done")
TOGETHER, FREE = step(Act.PARTNER_CUT_OVER, together=True), step(Act.PARTNER_CUT_OVER)
EARLY = step(Act.PARTNER_CUT_OVER, blocked=True)
OURS, OURS_BLOCKED = step(Act.CUT_OVER), step(Act.CUT_OVER, blocked=True)
OURS_DONE, OURS_FAILED, OURS_RUNNING = (step(Act.CUT_OVER, state) for state in ("done", "failed", "running"))


def situation(*steps: Any, ours: Any = OURS, now: datetime = BEFORE, **values: Any) -> PartnerSituation:
    state = values.pop("state", RotationState.SCHEDULED)
    cut_overs = [ours] if ours else []
    return PartnerSituation(state, STARTS, ENDS, now, steps=steps, cut_overs=cut_overs, **values)


def together(*, now: datetime, ours: Any = OURS, **values: Any) -> PartnerSituation:
    return situation(AGREED, TOGETHER, ours=ours, now=now, **values)


APPLIED, UNDER_WAY = RotationState.APPLIED, RotationState.UNDER_WAY
NOTHING, WAIT = PartnerAction.NOTHING, PartnerAction.WAIT
MADE = {"ours": OURS_DONE, "state": APPLIED, "now": INSIDE}


@pytest.mark.parametrize(
    ("found", "action", "detail"),
    [
        # It holds both.
        (situation(INSTALL), PartnerAction.ADD_BESIDE, STARTS),
        (situation(INSTALL, now=INSIDE), PartnerAction.ADD_BESIDE, None),
        (situation(INSTALLED), NOTHING, None),
        (situation(INSTALLED, now=AFTER), WAIT, WaitReason.MISSED),
        (situation(INSTALL, has_declined=True, has_objection=True), WAIT, WaitReason.DECLINED),
        (situation(INSTALL, has_objection=True), PartnerAction.ADD_BESIDE, STARTS),
        (situation(INSTALLED, has_objection=True), WAIT, WaitReason.OTHER_TIME),
        (situation(INSTALL, has_objection=True, now=INSIDE), WAIT, WaitReason.OTHER_TIME),
        # It changes by itself.
        (situation(FREE, ours=None), PartnerAction.SWITCH_BY, ENDS),
        (situation(FREE, ours=None, now=AFTER), PartnerAction.SWITCH_NOW, None),
        (situation(EARLY, ours=None), WAIT, WaitReason.NOT_PREPARED),
        (situation(EARLY, ours=None, now=AFTER), WAIT, WaitReason.NOT_PREPARED),
        (situation(INSTALL, EARLY), PartnerAction.ADD_BESIDE, STARTS),
        (situation(INSTALLED, FREE), PartnerAction.SWITCH_BY, ENDS),
        (situation(INSTALLED, EARLY), NOTHING, None),
        # It changes together with us.
        (situation(AGREE, TOGETHER), PartnerAction.AGREE, STARTS),
        (situation(AGREE, TOGETHER, has_objection=True), WAIT, WaitReason.OTHER_TIME),
        (together(now=BEFORE), PartnerAction.SWITCH_AT, STARTS),
        (together(now=NEAR), PartnerAction.SWITCH_AT, STARTS),
        (together(now=NEAR - SECOND, is_kept_back=True), PartnerAction.SWITCH_AT, STARTS),
        (together(now=NEAR, is_kept_back=True), WAIT, WaitReason.OUR_SIDE),
        (together(now=NEAR, is_kept_back=True, has_objection=True), WAIT, WaitReason.OTHER_TIME),
        (together(now=NEAR, is_kept_back=True, has_declined=True), WAIT, WaitReason.DECLINED),
        (together(now=NEAR, ours=OURS_FAILED), WAIT, WaitReason.OUR_SIDE),
        (together(now=STARTS - SECOND, ours=OURS_BLOCKED), PartnerAction.SWITCH_AT, STARTS),
        (together(now=STARTS, ours=OURS_BLOCKED), WAIT, WaitReason.OUR_SIDE),
        (together(now=INSIDE), PartnerAction.SWITCH_NOW, ENDS),
        (together(now=STARTS + STARTED_BY - SECOND), PartnerAction.SWITCH_NOW, ENDS),
        (together(now=STARTS + STARTED_BY), WAIT, WaitReason.OUR_SIDE),
        (together(now=STARTS + STARTED_BY, ours=OURS_RUNNING), PartnerAction.SWITCH_NOW, ENDS),
        (together(now=AFTER), WAIT, WaitReason.MISSED),
        (together(now=AFTER, ours=OURS_DONE, state=UNDER_WAY), PartnerAction.SWITCH_NOW, None),
        # Each when it is ready.
        (situation(INSTALL, changes_when_ready=True, now=INSIDE), PartnerAction.ADD_BESIDE, ENDS),
        (situation(INSTALLED, changes_when_ready=True), NOTHING, STARTS),
        (situation(INSTALLED, changes_when_ready=True, now=INSIDE), NOTHING, INSIDE),
        (situation(INSTALLED, changes_when_ready=True, now=INSIDE, frozen_until=ENDS), NOTHING, ENDS),
        # After the change.
        (situation(INSTALLED, **MADE), PartnerAction.CONFIRM, None),
        (situation(INSTALLED, FREE, **MADE), PartnerAction.SWITCH_BY, ENDS),
        (situation(step(Act.PARTNER_RETIRE), works=True, **MADE), PartnerAction.REMOVE_OLD, None),
        (situation(step(Act.PARTNER_RETIRE, blocked=True), works=True, **MADE), NOTHING, None),
        (situation(step(Act.PARTNER_CUT_OVER, "done"), ours=None, works=True), NOTHING, None),
        # In an emergency, and on the way back.
        (situation(TOGETHER, is_emergency=True, now=AFTER), PartnerAction.SWITCH_NOW, None),
        (situation(INSTALLED, state=RotationState.ROLLING_BACK), PartnerAction.GO_BACK, None),
        (situation(INSTALLED, went_back_alone=True, is_going_back=True), PartnerAction.GO_BACK, None),
        (situation(INSTALLED, went_back_alone=True), NOTHING, None),
        (situation(INSTALL, state=RotationState.CANCELLED), NOTHING, None),
        (situation(INSTALL, state=RotationState.CLOSED), NOTHING, None),
    ],
)
def test_each_state_has_one_answer(
    found: PartnerSituation, action: PartnerAction, detail: datetime | WaitReason | None
) -> None:
    answer = find_next_action(found)
    assert (answer.action, answer.reason or answer.moment) == (action, detail)


@pytest.mark.parametrize(
    ("found", "progress"),
    [
        (situation(INSTALL, now=STARTS - SECOND), ChangeProgress.ASKING),
        (situation(INSTALL, now=STARTS), ChangeProgress.OPEN),
        (situation(INSTALL, now=ENDS), ChangeProgress.MISSED),
        (situation(INSTALL, now=INSIDE, changes_when_ready=True), ChangeProgress.ASKING),
        (situation(INSTALLED, now=INSIDE, ours=OURS_DONE, state=UNDER_WAY), ChangeProgress.MADE),
        (situation(INSTALLED, now=INSIDE, state=UNDER_WAY), ChangeProgress.OPEN),
        (situation(INSTALLED, state=RotationState.CANCELLED, was_rolled_back=True), ChangeProgress.WENT_BACK),
        (situation(INSTALLED, state=RotationState.CANCELLED), ChangeProgress.CALLED_OFF),
        (situation(INSTALLED, state=RotationState.CLOSED), ChangeProgress.COMPLETE),
    ],
)
def test_how_far_the_change_is(found: PartnerSituation, progress: ChangeProgress) -> None:
    assert find_next_action(found).progress is progress


def test_its_own_switch_is_early_while_our_side_is_not_prepared_whatever_comes_first() -> None:
    assert find_next_action(situation(INSTALL, EARLY)).is_switch_early
    assert not find_next_action(situation(INSTALL, FREE)).is_switch_early
    assert not find_next_action(situation(INSTALL, replace_blocked(TOGETHER))).is_switch_early


def replace_blocked(one: Any) -> Any:
    return SimpleNamespace(**{**vars(one), "blocked": True})


def test_a_waived_partner_that_changes_with_us_waits_too_and_one_that_has_changed_does_not() -> None:
    kept = together(now=NEAR, is_kept_back=True)
    skipped, done = (step(Act.PARTNER_CUT_OVER, state, together=True) for state in ("skipped", "done"))
    assert find_next_action(replace(kept, steps=[skipped])).reason is WaitReason.OUR_SIDE
    assert find_next_action(replace(kept, steps=[done])).action is NOTHING
    changed = together(now=INSIDE, ours=OURS_DONE, state=APPLIED)
    assert find_next_action(replace(changed, steps=[skipped])).action is PartnerAction.SWITCH_NOW
    assert find_next_action(replace(changed, steps=[skipped], works=True)).action is NOTHING


# A request for a new certificate

BOTH = ("verify", "encrypt")
USED, LATER = UsedCertificate(BOTH, ENDS), ENDS + timedelta(days=700)
HAND_IN = PartnerAction.HAND_IN


@pytest.mark.parametrize(
    ("used", "successors", "action", "detail"),
    [
        ([], [], HAND_IN, None),
        ([USED], [], HAND_IN, ENDS),
        ([USED], [Successor(BOTH, LATER, is_compared=False)], WAIT, WaitReason.COMPARED),
        ([USED], [Successor(BOTH, LATER, is_compared=True)], NOTHING, None),
        ([], [Successor(BOTH, LATER, is_compared=False)], WAIT, WaitReason.COMPARED),
        # It ends no later, or serves one role only.
        ([USED], [Successor(BOTH, ENDS, is_compared=False)], HAND_IN, ENDS),
        ([USED], [Successor(("verify",), LATER, is_compared=True)], HAND_IN, ENDS),
        (
            [UsedCertificate(("verify",), ENDS), UsedCertificate(("encrypt",), STARTS)],
            [Successor(("encrypt",), LATER, is_compared=False)],
            HAND_IN,
            ENDS,
        ),
    ],
)
def test_a_request_for_a_new_certificate(
    used: list[UsedCertificate],
    successors: list[Successor],
    action: PartnerAction,
    detail: datetime | WaitReason | None,
) -> None:
    answer = find_request_action(RequestSituation(used, successors))
    assert (answer.action, answer.reason or answer.moment) == (action, detail)
    assert answer.progress is ChangeProgress.ASKING


# The questions of a partner's page, and what it accepts

RETIRE = step(Act.PARTNER_RETIRE)
UNKNOWN: dict[str, Any] = {"lacks_capability": True, "capability_matters": True}
ALWAYS = {Answer.DECLINE, Answer.COLLEAGUE}
TIME = {Answer.AGREE, Answer.PROPOSE}


@pytest.mark.parametrize(
    ("found", "open_question", "accepted"),
    [
        # Before the change.
        (situation(INSTALL), Question.INSTALLED, {Answer.INSTALLED, *TIME, *ALWAYS}),
        (situation(INSTALL, **UNKNOWN), Question.CAPABILITY, {Answer.CAPABILITY, Answer.INSTALLED, *TIME, *ALWAYS}),
        (situation(INSTALLED, given=GivenAnswers(is_installed=True)), None, {Answer.INSTALLED, *TIME, *ALWAYS}),
        (situation(INSTALL, are_times_offered=True, given=GivenAnswers(is_installed=True)), Question.TIME, None),
        (situation(AGREE, TOGETHER, given=GivenAnswers(has_downloaded=True)), Question.TIME, None),
        (situation(INSTALL, ours=None), Question.INSTALLED, {Answer.INSTALLED, *ALWAYS}),
        (situation(INSTALL, FREE, given=GivenAnswers(is_installed=True)), Question.SWITCHED, None),
        (situation(INSTALL, EARLY, given=GivenAnswers(is_installed=True)), None, {Answer.INSTALLED, *TIME, *ALWAYS}),
        (situation(INSTALL, changes_when_ready=True), Question.INSTALLED, {Answer.INSTALLED, *ALWAYS}),
        (situation(INSTALL, is_own=False), Question.INSTALLED, {Answer.INSTALLED, *TIME, *ALWAYS}),
        (situation(TOGETHER, is_own=False), None, {*TIME, *ALWAYS}),
        # In the window, and after it.
        (situation(INSTALL, now=INSIDE), Question.INSTALLED, {Answer.INSTALLED, *ALWAYS}),
        (together(now=AFTER), None, {Answer.INSTALLED, *ALWAYS}),
        (situation(TOGETHER, is_emergency=True), Question.INSTALLED, {Answer.INSTALLED, Answer.COLLEAGUE}),
        (
            situation(FREE, ours=OURS, state=UNDER_WAY, is_own=False),
            Question.SWITCHED,
            {Answer.SWITCHED, Answer.COLLEAGUE},
        ),
        (situation(INSTALLED, is_own=False, is_apart=True, state=UNDER_WAY), Question.INSTALLED, None),
        # After the change.
        (situation(INSTALLED, **MADE), Question.WORKS, {Answer.WORKS, Answer.INSTALLED, Answer.COLLEAGUE}),
        (situation(INSTALLED, works=False, **MADE), None, {Answer.WORKS, Answer.INSTALLED, Answer.COLLEAGUE}),
        (
            situation(RETIRE, works=True, given=GivenAnswers(is_proven=True), **MADE),
            Question.DROPPED,
            {Answer.WORKS, Answer.DROPPED, Answer.COLLEAGUE},
        ),
        (situation(INSTALLED, state=RotationState.CLOSED), None, {Answer.WORKS}),
        (situation(INSTALL, state=RotationState.CANCELLED), None, set()),
        (situation(INSTALL, state=RotationState.ROLLING_BACK), None, {Answer.COLLEAGUE}),
        (situation(INSTALLED, went_back_alone=True), None, set()),
    ],
)
def test_the_open_question_and_what_the_page_accepts(
    found: PartnerSituation, open_question: Question | None, accepted: set[Answer] | None
) -> None:
    answer = find_next_action(found)
    assert answer.open_question is open_question
    if accepted is not None:
        assert answer.answers == accepted


def test_the_page_accepts_offered_times_rather_than_an_agreement_to_the_window() -> None:
    answers = find_next_action(situation(INSTALL, are_times_offered=True)).answers
    assert Answer.SLOTS in answers
    assert Answer.AGREE not in answers


def test_what_its_system_holds_can_be_corrected_until_the_end() -> None:
    stated = GivenAnswers(has_stated_capability=True)
    for found in (situation(INSTALL, now=AFTER), situation(INSTALLED, **MADE)):
        assert Answer.CAPABILITY in find_next_action(replace(found, capability_matters=True, given=stated)).answers
        assert Answer.CAPABILITY not in find_next_action(replace(found, capability_matters=False, given=stated)).answers


def test_the_old_certificate_is_not_removed_before_its_time() -> None:
    made = situation(RETIRE, works=True, given=GivenAnswers(is_proven=True), **{**MADE, "now": STARTS - SECOND})
    answer = find_next_action(made)
    assert answer.find_question(Question.DROPPED) == AskedQuestion(Question.DROPPED, is_later=True, not_before=STARTS)
    assert Answer.DROPPED not in answer.answers


def test_an_ended_change_accepts_a_report_without_asking_for_it() -> None:
    ended = find_next_action(situation(INSTALLED, state=RotationState.CLOSED))
    assert ended.questions == [AskedQuestion(Question.WORKS, is_required=False)]
