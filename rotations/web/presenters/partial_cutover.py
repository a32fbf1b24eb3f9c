"""What is where while a change is half made: which AS2 systems and partners use the new certificate, and which do not.

Only places whose cut-over is a step of the plan are told; what a partner does at its own pace is in the table of
partners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.urls import reverse

from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.models import Rotation, Step
from rotations.planning.change import SWITCH_ACTS, Act
from rotations.planning.states import RotationState, StepState
from rotations.web.presenters.partner_table import CHANGE_PERMISSION, ActionLink


@dataclass(frozen=True)
class EndpointStatus:
    """One AS2 system or partner, what it uses, since when (UTC) that is known, and what can be done about it alone.

    ``sure`` says that it is known: a step that failed or is being carried out may have left either.
    """

    name: str
    uses: str
    since: datetime | None
    sure: bool
    note: str
    choices: Sequence[ActionLink] = field(default=())


def endpoint_statuses(rotation: Rotation, steps: Sequence[Step]) -> list[EndpointStatus]:
    """Return what is where; nothing while nothing was switched, and once everything is. ``steps`` are all of them."""
    if rotation.state not in (RotationState.UNDER_WAY, RotationState.ROLLING_BACK):
        return []
    back = {step.key.removeprefix(f"{ROLL_BACK}:"): step for step in steps if step.act == ROLL_BACK}
    switching = [
        s
        for s in steps
        if s.act in SWITCH_ACTS
        and (s.act == Act.CUT_OVER or s.simultaneous)
        and not s.key.startswith(f"{PAST_PREFIX}:")
    ]
    found = [_endpoint_status(rotation, step, back.get(step.key)) for step in switching]
    return found if len({(place.uses, place.sure) for place in found}) > 1 else []


def _endpoint_status(rotation: Rotation, step: Step, back: Step | None) -> EndpointStatus:
    old = rotation.old.short_name if rotation.old else "nothing"
    new = rotation.new.short_name if rotation.new else "the new one"
    now_at, last = (old, back) if back is not None else (new, step)
    match StepState(last.state):
        case StepState.DONE:
            return EndpointStatus(
                _endpoint_name(step),
                now_at,
                last.done_at,
                True,
                "",
                _endpoint_links(step) if back is None else (),
            )
        case StepState.FAILED:
            note = f"It is read back before anything else is done there. {last.error}".strip()
            retry = ActionLink(
                "Try again …", reverse("rotation-step-retry", args=[last.uid]), CHANGE_PERMISSION
            )
            return EndpointStatus(_endpoint_name(step), f"{old} or {new}", None, False, note, (retry,))
        case StepState.RUNNING:
            return EndpointStatus(
                _endpoint_name(step), f"{old} or {new}", None, False, "It is being changed at this moment."
            )
    left_out = (
        "left out" if last.state == StepState.SKIPPED else "not its turn yet" if last.blocked else "to come"
    )
    return EndpointStatus(
        _endpoint_name(step), old if back is None else new, None, True, left_out, _endpoint_links(step)
    )


def _endpoint_name(step: Step) -> str:
    where = str(step.system) if step.system else "our inventory"
    if step.participant is None:
        return where
    partner = str(step.participant.partner)
    return f"{where}, towards {partner}" if step.act == Act.CUT_OVER else partner


def _endpoint_links(step: Step) -> Sequence[ActionLink]:
    """Return what can be done with one partner alone, where we sign per partner."""
    participant = step.participant
    if participant is None or step.act != Act.CUT_OVER:
        return ()
    if step.state == StepState.DONE:
        return (
            ActionLink(
                "Go back alone …", reverse("participant-take-back", args=[participant.uid]), CHANGE_PERMISSION
            ),
        )
    return (
        ActionLink(
            "Another moment …", reverse("participant-move", args=[participant.uid]), CHANGE_PERMISSION
        ),
    )
