"""The active rotations of the home page: their progress and what they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Prefetch, Q

from as2certs.time_format import format_countdown
from identities.open_tasks import OpenTask
from rotations.models import Participant, Rotation
from rotations.planning.states import RotationState

#: From this long before the window on, partners that have not confirmed are open tasks.
CONFIRMATION_WARNING = timedelta(days=3)
#: Rotations on the home page: those with the next windows.
MAX_ROTATIONS = 50

_PARTICIPATES = Q(participants__removed_reason="")
_ANSWERED = Q(participants__confirmed_at__isnull=False) | Q(participants__agreed_at__isnull=False)
_WAIVED = ~Q(participants__waived_reason="")


@dataclass(frozen=True)
class ActiveRotation:
    """A rotation that has not ended, with counts of failed steps, of participants and of ready ones."""

    rotation: Rotation
    failed: int
    participants: int
    ready: int
    silent: Sequence[Participant]

    def open_tasks(self, now: datetime, *, quiet: bool = False) -> Iterator[OpenTask]:
        """Yield what waits for a person; with ``quiet``, not that the rotation is a draft."""
        rotation, url = self.rotation, self.rotation.get_absolute_url()
        state = RotationState(rotation.state)
        if self.failed:
            yield OpenTask("urgent", f"{rotation}: a step failed", "Look at the step", url)
        if rotation.is_overdue(now):
            yield OpenTask("urgent", f"{rotation}: its window is over, and it is not applied", "Decide what to do", url)
        elif rotation.is_withdrawn:
            yield OpenTask("needs_you", f"{rotation}: its approval is withdrawn", "Open the rotation", url)
        elif state is RotationState.DRAFT and not quiet:
            yield OpenTask("needs_you", f"{rotation}: the rotation is a draft", "Open the draft", url)
        elif state is RotationState.EXCHANGING and self._is_close(now):
            assert rotation.ready_by is not None  # it is close
            when = format_countdown(rotation.ready_by, now)
            for participant in self.silent[:3]:
                yield OpenTask(
                    "needs_you",
                    f"{participant.partner} has not confirmed · window of {rotation} {when}",
                    "Open the rotation",
                    url,
                )

    def _is_close(self, now: datetime) -> bool:
        ready_by = self.rotation.ready_by
        return ready_by is not None and ready_by - now <= CONFIRMATION_WARNING


def get_active_rotations() -> list[ActiveRotation]:
    """Return the active rotations, those with the next window first; two queries."""
    silent = (
        Participant.objects.filter(removed_reason="", waived_reason="", confirmed_at=None, agreed_at=None)
        .select_related("partner")
        .order_by("partner__name", "id")
    )
    rows: Any = (
        Rotation.objects.running()
        .select_related("identity", "partner", "new_identity_certificate", "new_partner_certificate")
        .defer(
            "new_identity_certificate__der",
            "new_identity_certificate__chain_pem",
            "new_partner_certificate__der",
            "new_partner_certificate__chain_pem",
        )
        .annotate(
            failed=Count("steps", filter=Q(steps__state="failed"), distinct=True),
            participants_count=Count("participants", filter=_PARTICIPATES, distinct=True),
            ready=Count("participants", filter=_PARTICIPATES & (_ANSWERED | _WAIVED), distinct=True),
        )
        .prefetch_related(Prefetch("participants", queryset=silent, to_attr="silent"))
        .order_by(F("window_start").asc(nulls_last=True), "id")[:MAX_ROTATIONS]
    )
    return [ActiveRotation(row, row.failed, row.participants_count, row.ready, row.silent) for row in rows]
