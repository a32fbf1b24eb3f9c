"""Run an action for many participants, each in its own transaction, so that failures do not affect the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from django.db import DatabaseError, transaction

from rotations.errors import RotationError
from rotations.models import Participant

log = logging.getLogger(__name__)

T = TypeVar("T")

#: After this time, the remaining participants are left out and reported.
MAX_SECONDS = 20.0


@dataclass
class BulkResult(Generic[T]):
    """For which participants the action succeeded, which were refused and why, and which were left out."""

    done: list[tuple[Participant, T]] = field(default_factory=list)
    refused: list[tuple[Participant, str]] = field(default_factory=list)
    left: list[Participant] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return the names of the partners for which the action succeeded."""
        return [participant.partner.name for participant, _ in self.done]


def run_for_each(
    participants: Iterable[Participant], do: Callable[[Participant], T], *, max_seconds: float = MAX_SECONDS
) -> BulkResult[T]:
    """Run ``do`` for each participant, for at most ``max_seconds``."""
    result: BulkResult[T] = BulkResult()
    ends = monotonic() + max_seconds
    for participant in participants:
        if monotonic() > ends:
            result.left.append(participant)
            continue
        try:
            with transaction.atomic():
                value = do(participant)
        except RotationError as error:
            result.refused.append((participant, str(error)))
        except DatabaseError as error:
            log.exception("Not done for %s", participant.uid)
            result.refused.append((participant, f"The database did not take it: {error}"))
        else:
            result.done.append((participant, value))
    return result
