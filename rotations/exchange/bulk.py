"""Do the same for many participants, each in a transaction of its own: one that fails keeps nobody else from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

from django.db import DatabaseError, transaction

from rotations.errors import ActionRefused, EditConflict, IllegalTransition, UnknownPlaceholder
from rotations.models import Participant

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What a participant may be refused with; each message is a sentence for the person.
REFUSALS = (ActionRefused, EditConflict, IllegalTransition, UnknownPlaceholder)
#: So many seconds are spent on one request: what is left then is said to be left.
MAX_SECONDS = 20.0


@dataclass
class BulkResult(Generic[T]):
    """What came of it: for whom it was done, who was refused and why, and for whom no time was left."""

    done: list[tuple[Participant, T]] = field(default_factory=list)
    refused: list[tuple[Participant, str]] = field(default_factory=list)
    left: list[Participant] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return the names of the partners for whom it was done."""
        return [participant.partner.name for participant, _ in self.done]


def run_for_each(
    participants: Iterable[Participant], do: Callable[[Participant], T], *, patience: float = MAX_SECONDS
) -> BulkResult[T]:
    """Do something for each of these participants, at most for ``patience`` seconds."""
    outcome: BulkResult[T] = BulkResult()
    ends = monotonic() + patience
    for participant in participants:
        if monotonic() > ends:
            outcome.left.append(participant)
            continue
        try:
            with transaction.atomic():
                result = do(participant)
        except REFUSALS as error:
            outcome.refused.append((participant, str(error)))
        except DatabaseError as error:
            log.exception("Not done for %s", participant.uid)
            outcome.refused.append((participant, f"The database did not take it: {error}"))
        else:
            outcome.done.append((participant, result))
    return outcome
