"""The progress of a change: the period in which both certificates are accepted, and who uses which one meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.urls import reverse

from identities.open_tasks import ActionLink
from rotations.execution.stored_plan import PAST_PREFIX, ROLL_BACK
from rotations.models import Rotation, Step
from rotations.planning.change import SWITCH_ACTS, Act, Role
from rotations.planning.states import RotationState, StepState
from rotations.web.presenters.partner_table import CHANGE_ROTATION, PartnerRow

#: How many partners are drawn.
MAX_LANES = 60

LaneKind = Literal["changed", "agreed", "planned", "proposed", "open"]


@dataclass(frozen=True)
class OverlapLane:
    """A partner: since when it accepts both certificates (None: not yet), and when it changes over."""

    partner: str
    url: str
    both_from: datetime | None
    moment: datetime
    kind: LaneKind


@dataclass(frozen=True)
class Overlap:
    """The period in which both certificates are accepted, the window in it, and when each partner changes over."""

    lanes: Sequence[OverlapLane]
    more: int
    ends: datetime
    window_start: datetime
    window_end: datetime

    @property
    def begins(self) -> datetime | None:
        """Return when the first partner began to accept both certificates; None while none does."""
        return min((lane.both_from for lane in self.lanes if lane.both_from), default=None)


def build_overlap(rotation: Rotation, rows: Sequence[PartnerRow], steps: Iterable[Step]) -> Overlap | None:
    """Return the overlap of a rotation; None when our system changes over for all partners at once."""
    system = rotation.identity.as2_system if rotation.identity else None
    if system is None or not system.signs_per_partner or Role.SIGN.value not in rotation.roles:
        return None
    start, end, old = rotation.window_start, rotation.window_end, rotation.old
    if start is None or end is None or old is None or not rows:
        return None
    retired = [step.done_at or step.due_at or step.earliest_at for step in steps if step.act == Act.RETIRE]
    ends = min([old.not_after, *(moment for moment in retired if moment)])
    lanes = [_lane(row, start) for row in rows[:MAX_LANES]]
    return Overlap(lanes, max(0, len(rows) - MAX_LANES), ends, start, end)


def _lane(row: PartnerRow, window_start: datetime) -> OverlapLane:
    moment, kind = _lane_moment(row, window_start)
    install = row.install_step
    both = install.done_at if install and install.state == StepState.DONE else None
    return OverlapLane(row.participant.partner.name, row.url, both, moment, kind)


def _lane_moment(row: PartnerRow, window_start: datetime) -> tuple[datetime, LaneKind]:
    """Return when a partner changes over: its own cut-over, its proposal, or else the window of the rotation."""
    participant = row.participant
    own = row.cut_over_step
    if own is not None and own.done_at is not None:
        return own.done_at, "changed"
    if participant.proposed_at is not None and participant.proposed_start is not None:
        return participant.proposed_start, "proposed"
    planned = (own.due_at or own.earliest_at) if own is not None else None
    if participant.changes_when_ready:
        planned = participant.ends  # it may be any time until then
    if participant.agreed_at is not None:
        return planned or window_start, "agreed"
    return planned or window_start, "planned" if row.agree_step is None else "open"


# A change that is made in part


@dataclass(frozen=True)
class EndpointStatus:
    """The certificate that an AS2 system or partner uses, since when (UTC), and the actions for it alone.

    ``is_certain`` is false after a step that failed or is running: either certificate may be in use.
    """

    name: str
    uses: str
    since: datetime | None
    is_certain: bool
    note: str
    links: Sequence[ActionLink] = ()


def endpoint_statuses(rotation: Rotation, steps: Sequence[Step]) -> list[EndpointStatus]:
    """Return the status of each endpoint while only part of them use the new certificate; else an empty list."""
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
    return found if len({(status.uses, status.is_certain) for status in found}) > 1 else []


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
            retry = ActionLink("Try again …", reverse("rotation-step-retry", args=[last.uid]), CHANGE_ROTATION)
            return EndpointStatus(_endpoint_name(step), f"{old} or {new}", None, False, note, (retry,))
        case StepState.RUNNING:
            return EndpointStatus(
                _endpoint_name(step), f"{old} or {new}", None, False, "It is being changed at this moment."
            )
    left_out = "left out" if last.state == StepState.SKIPPED else "not its turn yet" if last.blocked else "to come"
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
    """Return the actions for one partner alone, when we sign per partner."""
    participant = step.participant
    if participant is None or step.act != Act.CUT_OVER:
        return ()
    if step.state == StepState.DONE:
        return (
            ActionLink("Go back alone …", reverse("participant-take-back", args=[participant.uid]), CHANGE_ROTATION),
        )
    return (ActionLink("Another moment …", reverse("participant-move", args=[participant.uid]), CHANGE_ROTATION),)
