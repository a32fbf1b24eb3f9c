"""How far a change is for one partner, and what the partner can still answer, in its time zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from as2certs.time_format import format_exact_moment, format_moment, format_window
from identities.stations import AbstractCertificate
from rotations.letters.context import LetterContext
from rotations.models import Participant, Rotation, Slot, Step
from rotations.planning.partner_actions import (
    BEFORE_CHANGE_PROGRESS,
    ENDED_PROGRESS,
    Answer,
    ChangeProgress,
    NextAction,
)
from rotations.planning.states import SETTLED

#: From this long before the window, the page shows a countdown.
SOON = timedelta(hours=24)


@dataclass(frozen=True)
class ParticipantProgress:
    """The progress of a change for one partner."""

    context: LetterContext
    slots: Sequence[Slot]
    available_slots: frozenset[int]
    has_answered_slots: bool

    @property
    def participant(self) -> Participant:
        return self.context.participant

    @property
    def rotation(self) -> Rotation:
        return self.context.rotation

    @property
    def our_name(self) -> str:
        return self.context.our_name

    @property
    def is_own(self) -> bool:
        """Return whether it is our certificate that changes."""
        return self.rotation.side == "own"

    @cached_property
    def our_id(self) -> str:
        return self.context.shared.our_ids

    @property
    def zone(self) -> str:
        return self.context.zone

    @property
    def now(self) -> datetime:
        return self.context.now

    @property
    def new(self) -> AbstractCertificate:
        new = self.rotation.new
        assert new is not None  # approved rotations have a successor
        return new

    @property
    def old(self) -> AbstractCertificate | None:
        return self.rotation.old

    @property
    def starts(self) -> datetime:
        return self.context.task.starts

    @property
    def ends(self) -> datetime:
        return self.context.task.ends

    @property
    def ready_by(self) -> datetime:
        """Return the moment by which the partner has to be ready."""
        return self.participant.ready_by or self.starts

    @property
    def changes_when_ready(self) -> bool:
        """Return whether we change for the partner as soon as it is ready, rather than at a moment."""
        return self.participant.changes_when_ready

    @property
    def last_moment(self) -> str:
        """Return the end of the window in the partner's time zone."""
        return format_exact_moment(self.ends, self.zone)

    @property
    def window(self) -> str:
        """Return the window in the partner's time zone."""
        return self.participant.format_window(self.zone)

    @property
    def window_utc(self) -> str:
        """Return the window in UTC; empty when that is the partner's time zone."""
        return "" if self.zone == "UTC" else self.participant.format_window("UTC")

    @property
    def until(self) -> str:
        """Return the deadline for answers."""
        return self.context.until

    @property
    def install_by(self) -> str:
        """Return until when the partner still has to install the certificate; empty if it does so in the window."""
        at = self.context.open_install_by
        return format_exact_moment(at, self.zone) if at else ""

    @property
    def old_ends(self) -> str:
        return format_moment(self.old.not_after, self.zone, "day") if self.old else ""

    @property
    def changes_together(self) -> bool:
        """Return whether both sides change at the same time."""
        return self.next_action.changes_together

    @property
    def proposed(self) -> str:
        """Return the time that the partner proposed, in the time zone that it chose."""
        participant = self.participant
        if participant.proposed_start is None or participant.proposed_end is None:
            return ""
        return format_window(participant.proposed_start, participant.proposed_end, participant.proposed_zone)

    # Progress

    @property
    def next_action(self) -> NextAction:
        """Return what the partner may do next."""
        return self.context.next_action

    @property
    def progress(self) -> ChangeProgress:
        return self.next_action.progress

    @property
    def answers(self) -> frozenset[Answer]:
        """Return what the page accepts, and therefore has a form for."""
        return self.next_action.answers

    @property
    def cut_overs(self) -> Sequence[Step]:
        return self.context.cut_overs

    @property
    def we_switch(self) -> bool:
        """Return whether we change over for this partner, so that the change has a time."""
        return self.next_action.we_switch

    @property
    def made_at(self) -> datetime | None:
        """Return when we finished changing over for this partner; None before that."""
        if not self.cut_overs or any(step.state not in SETTLED for step in self.cut_overs):
            return self.rotation.applied_at
        return max((step.done_at for step in self.cut_overs if step.done_at), default=self.rotation.applied_at)

    @property
    def is_over(self) -> bool:
        return self.progress in ENDED_PROGRESS

    @property
    def is_soon(self) -> bool:
        """Return whether the change is near, and takes place as far as is known."""
        is_near = self.progress is ChangeProgress.ASKING and self.ready_by - self.now <= SOON
        return is_near and not self.next_action.must_keep_old

    @property
    def gives_files(self) -> bool:
        """Return whether our certificate can be downloaded."""
        return self.is_own and not self.is_over and self.progress is not ChangeProgress.GOING_BACK

    @property
    def shows_steps(self) -> bool:
        """Return whether the steps of the plan still apply to the partner."""
        return self.progress in (*BEFORE_CHANGE_PROGRESS, ChangeProgress.MADE)
