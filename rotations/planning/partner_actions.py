"""What a partner may do in a change at a moment: the one answer of its page, its mails, notices and calendar entry.

``find_next_action`` is pure; ``rotations.execution.partner_situation`` reads what it needs for a participant. The
questions of the partner's page are part of the answer, and what the page accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

#: States in which a partner can report the result of the change.
AFTER_CHANGE = (RotationState.UNDER_WAY, RotationState.APPLIED, RotationState.CLOSED)

#: How long before the window partners that change together with us are asked to wait if we are not ready.
LEAD_TIME = timedelta(minutes=30)
#: A change that has not started so long after its moment is reported: somebody still has time to act in the window.
STARTED_BY = timedelta(minutes=5)


class ChangeProgress(StrEnum):
    """How far a change is for one partner."""

    ASKING = "asking"
    OPEN = "open"
    MISSED = "missed"
    MADE = "made"
    GOING_BACK = "going back"
    WENT_BACK = "went back"
    CALLED_OFF = "called off"
    COMPLETE = "complete"


#: Before the change is made.
BEFORE_CHANGE_PROGRESS = (ChangeProgress.ASKING, ChangeProgress.OPEN, ChangeProgress.MISSED)
#: After the end; only a report on the result can be answered.
ENDED_PROGRESS = (ChangeProgress.WENT_BACK, ChangeProgress.CALLED_OFF, ChangeProgress.COMPLETE)


class PartnerAction(StrEnum):
    """What a partner may do next; what the moment of ``NextAction`` is then."""

    WAIT = "wait"  #: keep the old certificate; see ``WaitReason``
    ADD_BESIDE = "add it beside the old one"  #: or load the key of its own; at once without a moment
    AGREE = "agree to the time"
    SWITCH_AT = "switch at a moment"  #: exactly then, together with us
    SWITCH_BY = "switch when it likes"  #: until then
    SWITCH_NOW = "switch now"  #: until then, if there is a moment
    GO_BACK = "go back to the old certificate"
    CONFIRM = "say whether messages flow"
    REMOVE_OLD = "remove the old certificate"
    HAND_IN = "hand in its new certificate"  #: before its first one ends, if it has one
    NOTHING = "nothing"  #: from then on we change for a partner that changes when it is ready


class WaitReason(StrEnum):
    """Why a partner has to wait."""

    DECLINED = "it declined"
    OTHER_TIME = "it proposes another time"
    OUR_SIDE = "our own change is held up"
    NOT_PREPARED = "our side can't read or accept the new certificate yet"
    MISSED = "the window is over"
    COMPARED = "its new certificate is compared with it first"


class Question(StrEnum):
    """A question of a partner's page, in the order in which they are asked; the value names its template."""

    WORKS = "works"
    CAPABILITY = "capability"
    INSTALLED = "installed"
    TIME = "time"
    SWITCHED = "switched"
    DROPPED = "dropped"


class Answer(StrEnum):
    """What a partner can send from its page."""

    WORKS = "works"
    CAPABILITY = "capability"
    INSTALLED = "installed"
    AGREE = "agree"
    SLOTS = "slots"  #: at which of the offered times it can
    PROPOSE = "propose"
    SWITCHED = "switched"
    DROPPED = "dropped"
    DECLINE = "decline"
    COLLEAGUE = "colleague"


@dataclass(frozen=True)
class AskedQuestion:
    """A question and how far it is answered. ``not_before`` (UTC): the moment for which one that is later waits."""

    question: Question
    is_required: bool = True
    is_answered: bool = False
    is_later: bool = False
    not_before: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Return whether an answer is required and possible now."""
        return self.is_required and not self.is_answered and not self.is_later


@dataclass(frozen=True)
class NextAction:
    """What a partner may do next, and how far the change is for it; all moments are in UTC.

    ``moment`` belongs to the action. ``is_switch_early``: the switch that it makes by itself, next or later, has to
    wait for what comes before on our side. ``is_about_to_switch``: together with us, at an agreed time that is near.
    ``frozen_until``: where we change when the partner is ready, so long nothing is changed. ``we_switch``: the change
    has a cut-over of ours. ``changes_together``: the partner's is made at the same moment, and
    ``has_to_switch_together`` while it is not. ``awaits_decision``: we don't change for it before somebody has decided
    about its objection. ``questions`` are those of its page in their
    order, ``answers`` what the page accepts.
    """

    progress: ChangeProgress
    action: PartnerAction
    reason: WaitReason | None = None
    moment: datetime | None = None
    is_switch_early: bool = False
    is_about_to_switch: bool = False
    frozen_until: datetime | None = None
    we_switch: bool = False
    changes_together: bool = False
    has_to_switch_together: bool = False
    awaits_decision: bool = False
    questions: Sequence[AskedQuestion] = ()
    answers: frozenset[Answer] = frozenset()

    @property
    def open_question(self) -> Question | None:
        """Return the first question that requires an answer now; None if there is none."""
        return next((one.question for one in self.questions if one.is_open), None)

    def find_question(self, question: Question) -> AskedQuestion | None:
        """Return a question if it is asked."""
        return next((one for one in self.questions if one.question is question), None)

    @property
    def is_asked(self) -> bool:
        """Return whether an answer of the partner is still wanted before the change."""
        return self.progress in BEFORE_CHANGE_PROGRESS and self.action not in (
            PartnerAction.SWITCH_AT,
            PartnerAction.NOTHING,
        )

    @property
    def must_keep_old(self) -> bool:
        """Return whether a partner that would change at the agreed time must not, unless it hears from us."""
        return self.action is PartnerAction.WAIT and self.reason is not WaitReason.NOT_PREPARED


class PartnerStep(Protocol):
    """The attributes of a step that are used here."""

    act: Any
    simultaneous: bool
    state: Any
    blocked: bool
    earliest_at: datetime | None


@dataclass(frozen=True)
class GivenAnswers:
    """What a partner has answered so far, and done on its page."""

    is_installed: bool = False
    is_proven: bool = False
    has_downloaded: bool = False
    has_agreed: bool = False
    has_proposed: bool = False
    has_answered_slots: bool = False
    has_stated_capability: bool = False


@dataclass(frozen=True)
class PartnerSituation:
    """What decides what a partner may do at ``now``; all moments are in UTC.

    ``steps`` are the partner's own, ``cut_overs`` ours that affect it. ``is_own``: our certificate changes.
    ``is_apart``: we change for each partner at a moment of its own. ``is_kept_back``: our change with it waits for
    preparations, a decision, an approval or a rehearsal; it is asked for close to the window only. ``frozen_until``: so
    long nothing is changed here for a partner that changes when it is ready. ``are_times_offered``: it is asked at
    which of several times it can. ``lacks_capability``: what its system can hold is not known, and
    ``capability_matters`` where that makes a difference.
    """

    state: RotationState
    starts: datetime
    ends: datetime
    now: datetime
    steps: Sequence[PartnerStep]
    cut_overs: Sequence[PartnerStep] = ()
    is_emergency: bool = False
    changes_when_ready: bool = False
    is_kept_back: bool = False
    has_declined: bool = False
    has_objection: bool = False
    went_back_alone: bool = False
    is_going_back: bool = False
    was_rolled_back: bool = False
    works: bool | None = None
    frozen_until: datetime | None = None
    is_own: bool = True
    is_apart: bool = False
    are_times_offered: bool = False
    lacks_capability: bool = False
    capability_matters: bool = False
    given: GivenAnswers = GivenAnswers()

    @property
    def ready_by(self) -> datetime:
        return self.ends if self.changes_when_ready else self.starts

    @property
    def changes_together(self) -> bool:
        """Return whether the partner has to change at the same moment as we do."""
        return any(step.simultaneous for step in self.of_act(Act.PARTNER_CUT_OVER))

    @property
    def has_begun(self) -> bool:
        """Return whether the change is made or under way; where we change for each partner apart, for this one."""
        return self.state in AFTER_CHANGE and not (self.is_apart and self.state == RotationState.UNDER_WAY)

    @property
    def has_to_switch_together(self) -> bool:
        """Return whether the partner has still to change at the same moment as we do.

        One whose step is skipped is not waited for, but changes with us all the same: until it reports the result.
        """
        joint = [step for step in self.of_act(Act.PARTNER_CUT_OVER) if step.simultaneous]
        return any(
            step.state not in SETTLED or (step.state == StepState.SKIPPED and self.works is None) for step in joint
        )

    @property
    def is_near(self) -> bool:
        """Return whether a partner that changes together with us is about to, so that it has to know if we can't."""
        is_near = self.starts - LEAD_TIME <= self.now < self.ends
        return is_near and self.state in AWAITING_WINDOW and self.has_to_switch_together

    @property
    def we_switch(self) -> bool:
        return bool(self.cut_overs)

    def of_act(self, act: str) -> list[PartnerStep]:
        return [step for step in self.steps if step.act == act]

    def open_of(self, act: str) -> list[PartnerStep]:
        return [step for step in self.of_act(act) if step.state not in SETTLED]


def find_next_action(situation: PartnerSituation) -> NextAction:
    """Return what a partner may do next.

    1. While we go back: go back. After the end, or once it went back alone: nothing.
    2. After our change, or its own where we change nothing: switch, say whether it works, remove the old certificate.
    3. In an emergency: switch now.
    4. Before the change, it waits if it declined, if our side is not ready, or if the window is over.
    5. Then it does what it is asked: add the certificate, agree to the time; and waits for our answer to its proposal.
    6. Then it switches: with us at the start, or by itself until the end.
    """
    progress = _find_progress(situation)
    action, reason, moment = _find_action(situation, progress)
    questions = _find_questions(situation, progress)
    return NextAction(
        progress,
        action,
        reason,
        moment,
        is_switch_early=_is_switch_early(situation),
        is_about_to_switch=situation.is_near,
        frozen_until=situation.frozen_until,
        we_switch=situation.we_switch,
        changes_together=situation.changes_together,
        has_to_switch_together=situation.has_to_switch_together,
        awaits_decision=situation.has_objection and situation.we_switch and not situation.is_emergency,
        questions=questions,
        answers=frozenset(_find_answers(situation, progress, questions)),
    )


def _find_progress(it: PartnerSituation) -> ChangeProgress:
    match it.state:
        case RotationState.ROLLING_BACK:
            return ChangeProgress.GOING_BACK
        case RotationState.CANCELLED:
            return ChangeProgress.WENT_BACK if it.was_rolled_back else ChangeProgress.CALLED_OFF
        case RotationState.CLOSED:
            return ChangeProgress.COMPLETE
        case _ if it.went_back_alone:
            return ChangeProgress.GOING_BACK if it.is_going_back else ChangeProgress.WENT_BACK
        case RotationState.APPLIED if it.we_switch:
            return ChangeProgress.MADE
        case RotationState.UNDER_WAY if any(step.state == StepState.DONE for step in it.cut_overs):
            return ChangeProgress.MADE
    if not it.we_switch and it.of_act(Act.PARTNER_CUT_OVER) and not it.open_of(Act.PARTNER_CUT_OVER):
        return ChangeProgress.MADE
    if it.now < it.ready_by:
        return ChangeProgress.ASKING
    return ChangeProgress.OPEN if it.now < it.ends else ChangeProgress.MISSED


FoundAction = tuple[PartnerAction, WaitReason | None, datetime | None]


def _find_action(it: PartnerSituation, progress: ChangeProgress) -> FoundAction:
    switches = it.open_of(Act.PARTNER_CUT_OVER)
    match progress:
        case ChangeProgress.GOING_BACK:
            return PartnerAction.GO_BACK, None, None
        case _ if progress in ENDED_PROGRESS:
            return PartnerAction.NOTHING, None, None
        case ChangeProgress.MADE:
            return _after_change(it)
        case _ if it.is_emergency:
            return PartnerAction.SWITCH_NOW if switches else PartnerAction.NOTHING, None, None
    if reason := _wait_reason(it, progress):
        return PartnerAction.WAIT, reason, None
    if it.open_of(Act.INSTALL):
        return PartnerAction.ADD_BESIDE, None, it.ready_by if it.now < it.ready_by else None
    if it.open_of(Act.AGREE) and not it.has_objection:
        return PartnerAction.AGREE, None, it.starts
    if it.has_objection:
        return PartnerAction.WAIT, WaitReason.OTHER_TIME, None
    if it.has_to_switch_together:
        begun = it.now >= it.starts
        return (PartnerAction.SWITCH_NOW, None, it.ends) if begun else (PartnerAction.SWITCH_AT, None, it.starts)
    if any(not step.blocked for step in switches):
        return (PartnerAction.SWITCH_BY, None, it.ends) if it.now < it.ends else (PartnerAction.SWITCH_NOW, None, None)
    if it.changes_when_ready:
        return PartnerAction.NOTHING, None, it.frozen_until or max(it.now, it.starts)
    return PartnerAction.NOTHING, None, None


def _after_change(it: PartnerSituation) -> FoundAction:
    switches = it.open_of(Act.PARTNER_CUT_OVER)
    if it.has_to_switch_together:
        return PartnerAction.SWITCH_NOW, None, None
    if any(not step.blocked for step in switches):
        return (PartnerAction.SWITCH_BY, None, it.ends) if it.now < it.ends else (PartnerAction.SWITCH_NOW, None, None)
    if it.works is None and it.state in (RotationState.UNDER_WAY, RotationState.APPLIED):
        return PartnerAction.CONFIRM, None, None
    removals = [step for step in it.open_of(Act.PARTNER_RETIRE) if not step.blocked]
    if any(step.earliest_at is None or step.earliest_at <= it.now for step in removals):
        return PartnerAction.REMOVE_OLD, None, None
    return PartnerAction.NOTHING, None, None


def _wait_reason(it: PartnerSituation, progress: ChangeProgress) -> WaitReason | None:
    """Return why a partner has to wait whatever else it is asked; None if it has not."""
    together = it.changes_together
    if it.has_declined and progress is not ChangeProgress.MISSED:
        return WaitReason.DECLINED
    if is_held_up(it):
        return WaitReason.OTHER_TIME if it.has_objection else WaitReason.OUR_SIDE
    if _is_switch_early(it) and not it.we_switch and not together:
        return WaitReason.NOT_PREPARED
    if progress is ChangeProgress.MISSED and (it.we_switch or together):
        return WaitReason.MISSED
    if progress is ChangeProgress.OPEN and it.has_objection and it.we_switch:
        return WaitReason.OTHER_TIME
    return None


def is_held_up(it: PartnerSituation) -> bool:
    """Return whether our own change with a partner that is about to change together with us can't be made.

    1. It is kept back: preparations are open, or a decision, the approval or the rehearsal is missing.
    2. A cut-over has failed.
    3. The moment has come and another step is to be done first, or minutes after it the change has not started.
    """
    if not it.is_near:
        return False
    if it.is_kept_back or any(step.state == StepState.FAILED for step in it.cut_overs):
        return True
    waiting = [step for step in it.cut_overs if step.state == StepState.WAITING]
    if it.now >= it.starts + STARTED_BY:
        return bool(waiting)
    return it.now >= it.starts and any(step.blocked for step in waiting)


def _is_switch_early(it: PartnerSituation) -> bool:
    return any(step.blocked and not step.simultaneous for step in it.open_of(Act.PARTNER_CUT_OVER))


# A request for a new certificate of the partner: it takes part in no change yet.


@dataclass(frozen=True)
class UsedCertificate:
    """The roles that a certificate of a partner serves, and when it ends (UTC)."""

    roles: tuple[str, ...]
    ends: datetime


@dataclass(frozen=True)
class Successor:
    """A certificate of a partner that we hold for these roles, and when it ends (UTC).

    ``is_compared``: nobody has to compare its fingerprint with the partner any more.
    """

    roles: tuple[str, ...]
    ends: datetime
    is_compared: bool


@dataclass(frozen=True)
class RequestSituation:
    """What decides what a partner may do about its own certificates outside a change."""

    used: Sequence[UsedCertificate]
    successors: Sequence[Successor]


def find_request_action(situation: RequestSituation) -> NextAction:
    """Return what a partner may do about its own certificates while it takes part in no change.

    1. While a certificate in use has no successor, or there is none at all: hand one in.
    2. Wait while a new certificate has to be compared.
    3. Otherwise nothing: we agree on a time with it.
    """
    used, successors = situation.used, situation.successors
    ends = [one.ends for one in used if uncovered_roles(one, successors)]
    if ends or not (used or successors):
        return NextAction(ChangeProgress.ASKING, PartnerAction.HAND_IN, moment=min(ends, default=None))
    following = [one for one in successors if not used or any(_follows(one, old) for old in used)]
    if any(not one.is_compared for one in following):
        return NextAction(ChangeProgress.ASKING, PartnerAction.WAIT, WaitReason.COMPARED)
    return NextAction(ChangeProgress.ASKING, PartnerAction.NOTHING)


def uncovered_roles(used: UsedCertificate, successors: Sequence[Successor]) -> tuple[str, ...]:
    """Return the roles of a certificate for which there is no successor that ends later."""
    following = [one for one in successors if _follows(one, used)]
    return tuple(role for role in used.roles if not any(role in one.roles for one in following))


def _follows(successor: Successor, used: UsedCertificate) -> bool:
    return successor.ends > used.ends and not set(successor.roles).isdisjoint(used.roles)


# The questions of a partner's page, and what it accepts.


def _find_questions(it: PartnerSituation, progress: ChangeProgress) -> list[AskedQuestion]:
    """Return the questions to a partner in their order."""
    asked = (
        _works(it, progress),
        _capability(it, progress),
        _installed(it, progress),
        _time(it, progress),
        _switched(it, progress),
        _dropped(it, progress),
    )
    return [question for question in asked if question is not None]


def _works(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    if it.state not in AFTER_CHANGE or progress not in (ChangeProgress.MADE, ChangeProgress.COMPLETE):
        return None
    is_required = progress is ChangeProgress.MADE
    return AskedQuestion(Question.WORKS, is_required=is_required, is_answered=it.works is not None)


def _capability(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    """Ask what the partner's system can hold while that is not known and affects the plan."""
    if progress is not ChangeProgress.ASKING or not (it.lacks_capability and it.capability_matters):
        return None
    return AskedQuestion(Question.CAPABILITY, is_answered=it.given.has_stated_capability)


def _installed(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    """Ask for the installation, and for a proof of ours until there is one."""
    given, together = it.given, it.changes_together
    if not it.is_own:
        is_asked = progress in BEFORE_CHANGE_PROGRESS and it.of_act(Act.INSTALL)
        return AskedQuestion(Question.INSTALLED, is_answered=given.is_installed) if is_asked else None
    if progress not in BEFORE_CHANGE_PROGRESS and (progress is not ChangeProgress.MADE or given.is_proven):
        return None
    is_ready = together and progress is ChangeProgress.ASKING and given.has_downloaded
    return AskedQuestion(
        Question.INSTALLED,
        is_required=progress in (ChangeProgress.ASKING, ChangeProgress.OPEN)
        or (progress is ChangeProgress.MISSED and not together),
        is_answered=given.is_installed or is_ready,
    )


def _time(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    if it.is_emergency or it.changes_when_ready or progress is not ChangeProgress.ASKING or it.has_begun:
        return None
    if not (it.we_switch or it.changes_together or it.are_times_offered):
        return None
    given = it.given
    return AskedQuestion(
        Question.TIME,
        is_required=bool(it.of_act(Act.AGREE)) or it.are_times_offered,
        is_answered=given.has_proposed or given.has_agreed or given.has_answered_slots,
    )


def _switched(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    """Ask for the switch that a partner makes by itself."""
    steps = [step for step in it.of_act(Act.PARTNER_CUT_OVER) if not step.simultaneous]
    if progress not in (*BEFORE_CHANGE_PROGRESS, ChangeProgress.MADE):
        return None
    if all(step.state == StepState.SKIPPED for step in steps):
        return None
    return AskedQuestion(
        Question.SWITCHED,
        is_answered=all(step.state in SETTLED for step in steps),
        is_later=any(step.blocked for step in steps),
    )


def _dropped(it: PartnerSituation, progress: ChangeProgress) -> AskedQuestion | None:
    step = next(iter(it.of_act(Act.PARTNER_RETIRE)), None)
    if progress is not ChangeProgress.MADE or step is None or step.state == StepState.SKIPPED:
        return None
    is_answered = step.state == StepState.DONE
    not_before = step.earliest_at if step.earliest_at is not None and it.now < step.earliest_at else None
    return AskedQuestion(
        Question.DROPPED,
        is_answered=is_answered,
        is_later=not is_answered and (step.blocked or not_before is not None),
        not_before=not_before,
    )


def _find_answers(
    it: PartnerSituation, progress: ChangeProgress, questions: Sequence[AskedQuestion]
) -> Iterator[Answer]:
    """Yield what the page of a partner accepts: answers to its questions, and what it can say at any time."""
    for one in questions:
        match one.question:
            case Question.TIME:
                yield Answer.SLOTS if it.are_times_offered else Answer.AGREE
                yield Answer.PROPOSE
            case Question.SWITCHED | Question.DROPPED:
                if one.is_open:
                    yield Answer(one.question.value)
            case _:
                yield Answer(one.question.value)
    is_before = progress in BEFORE_CHANGE_PROGRESS
    can_correct = it.lacks_capability or it.given.has_stated_capability
    if it.capability_matters and can_correct and (is_before or progress is ChangeProgress.MADE):
        yield Answer.CAPABILITY
    if is_before and not it.has_begun and not it.is_emergency:
        yield Answer.DECLINE
    if progress not in ENDED_PROGRESS:
        yield Answer.COLLEAGUE
