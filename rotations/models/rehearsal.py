"""Judge the rehearsal of a rotation on a test station: its state, and whether the rotation waits for it.

Only the reference is stored. The state of a rehearsal is derived from its own state and steps.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from django.db.models import Count, Q
from django.urls import reverse

from as2certs.accounts.models import Installation
from identities.models import Identity
from partners.models import Partner
from rotations.models.rotation import Rotation
from rotations.planning.change import Act
from rotations.planning.states import ENDED, RotationState, StepState, label

#: States of a rotation that can still be rehearsed.
REHEARSABLE_STATES = (RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED)
#: States of a rotation whose change was made.
APPLIED_STATES = (RotationState.APPLIED, RotationState.CLOSED)


class RehearsalState(StrEnum):
    """How far the rehearsal of a rotation is."""

    NONE = "none"
    PROPOSED = "proposed"
    UNDER_WAY = "under_way"
    UNTESTED = "untested"
    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"


@dataclass(frozen=True)
class RehearsalResult:
    """The state of a rotation's rehearsal, the same as a sentence, the test station, and the rehearsing rotation."""

    state: RehearsalState
    sentence: str
    counterpart: Identity | Partner | None = None
    rehearsal: Rotation | None = None

    @property
    def may_begin(self) -> bool:
        """Whether a rehearsal can be set up: there is none, or it has ended without passing."""
        if self.counterpart is None or self.state in (RehearsalState.PASSED, RehearsalState.WAIVED):
            return False
        return self.rehearsal is None or self.rehearsal.state in ENDED


def rehearsal_result(rotation: Rotation) -> RehearsalResult:
    """Return the state of a rotation's rehearsal."""
    counterpart, rehearsal = rotation.holder.counterpart, rotation.rehearsal
    if rehearsal is not None:
        state, sentence = _rehearsal_outcome(rotation, rehearsal)
    elif counterpart is not None:
        state = RehearsalState.PROPOSED
        sentence = f"This change has not been made on {counterpart} yet."
    else:
        state, sentence = RehearsalState.NONE, f"{rotation.holder} has no test counterpart to rehearse on."
    if rotation.rehearsal_waived and state is not RehearsalState.PASSED:
        state = RehearsalState.WAIVED
        sentence = f"It goes on without a rehearsal: {rotation.rehearsal_waived}"
    return RehearsalResult(state, sentence, counterpart, rehearsal)


def _rehearsal_outcome(rotation: Rotation, rehearsal: Rotation) -> tuple[RehearsalState, str]:
    what, now = f"The rehearsal on {rehearsal.holder}", RotationState(rehearsal.state)
    if set(rehearsal.roles) != set(rotation.roles):
        theirs, ours = " + ".join(rehearsal.roles), " + ".join(rotation.roles)
        return RehearsalState.FAILED, f"{what} changes {theirs}, this one {ours}: it does not count."
    if now is RotationState.CANCELLED:
        how = "rolled back" if rehearsal.applied_at else "cancelled"
        return RehearsalState.FAILED, f"{what} was {how}."
    if now is RotationState.ROLLING_BACK:
        return RehearsalState.FAILED, f"{what} is being rolled back."
    count = _count_steps(rehearsal)
    if now in APPLIED_STATES and count["tests"] == count["tested"]:
        tested = "its tests are done" if count["tests"] else "its plan has no test"
        return RehearsalState.PASSED, f"{what} has passed: it is applied, and {tested}."
    if count["failed"] and now is not RotationState.CLOSED:
        return RehearsalState.FAILED, f"{what} has come to a step that failed."
    if now in APPLIED_STATES:
        return RehearsalState.UNTESTED, f"{what} is applied, but {_describe_untested(**count)}."
    if now is RotationState.DRAFT:
        return RehearsalState.UNDER_WAY, f"{what} is a draft, and waits to be approved."
    return RehearsalState.UNDER_WAY, f"{what} is on its way ({label(now)})."


def _count_steps(rehearsal: Rotation) -> dict[str, int]:
    tests, done = Q(act=Act.TEST), Q(state=StepState.DONE)
    return rehearsal.steps.aggregate(
        tests=Count("pk", filter=tests),
        tested=Count("pk", filter=tests & done),
        left_out=Count("pk", filter=tests & Q(state=StepState.SKIPPED)),
        failed=Count("pk", filter=Q(state=StepState.FAILED)),
    )


def _describe_untested(*, tests: int, tested: int, left_out: int, failed: int) -> str:
    """Return which of its tests keep a rehearsal from passing; skipped ones are not made any more."""
    number, (one, many), how = tests - tested, ("is", "are"), "not done yet"
    if left_out:
        number, (one, many), how = left_out, ("was", "were"), "left out"
    which = "its test" if tests == 1 else f"{number} of its {tests} tests"
    return f"{which} {one if number == 1 else many} {how}"


def rehearsal_obstacle(rotation: Rotation, result: RehearsalResult | None = None) -> str:
    """Return what a rotation's rehearsal lacks before it may be scheduled; "" where nothing is missing.

    Costs no query while the settings require none and the rotation was read ``with_rehearsal_rule``; otherwise a few,
    however many steps there are. ``result`` is the rehearsal's state, if the caller knows it.
    """
    if rotation.holder.is_test or rotation.is_emergency or rotation.rehearsal_waived or not _is_required(rotation):
        return ""
    result = result or rehearsal_result(rotation)
    if result.counterpart is None or result.state is RehearsalState.PASSED:
        return ""
    return f"It is to be rehearsed first. {result.sentence}"


def _is_required(rotation: Rotation) -> bool:
    known = rotation.rehearse_first
    return Installation.current().require_rehearsal if known is None else known


def rehearsal_mismatch(rotation: Rotation, holder: Identity | Partner, roles: Collection[str] | None = None) -> str:
    """Return why a rotation of ``holder`` in these roles can't be the rehearsal of ``rotation``; "" if it can.

    Leave out ``roles`` while they are not chosen yet.
    """
    state, result = RotationState(rotation.state), rehearsal_result(rotation)
    if state not in REHEARSABLE_STATES:
        return f"The rotation of {rotation.holder} is {label(state)}: there is nothing left to rehearse."
    if result.counterpart is None:
        return f"{rotation.holder} has no test counterpart to rehearse on. Name one on its page first."
    if holder != result.counterpart:
        return f"{rotation.holder} is rehearsed on {result.counterpart}, not on {holder}."
    if not result.may_begin:
        return f"It needs no other rehearsal. {result.sentence}"
    if roles is not None and set(roles) != set(rotation.roles):
        same = " + ".join(rotation.roles)
        return (
            f"A rehearsal makes the same change: that of {rotation.holder} is {same}. Choose the same roles, or start "
            f"a rotation of {holder} that rehearses nothing."
        )
    return ""


def rehearsal_create_url(rotation: Rotation, counterpart: Identity | Partner) -> str:
    """Return the URL of the form in which the rehearsal of a rotation is set up."""
    side = "identity" if isinstance(counterpart, Identity) else "partner"
    query = urlencode({side: str(counterpart.uid), "rehearses": str(rotation.uid)})
    return f"{reverse('rotation-create')}?{query}"
