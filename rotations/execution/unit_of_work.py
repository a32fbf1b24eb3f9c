"""What is known of rotations while steps of theirs are settled, and what is to be written of it.

One step or hundreds: the same is asked and written by as many statements. What is settled meanwhile is known here at
once, and in the database after ``Books.close``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from as2certs.audit.recording import Actor, AuditEvent, record_many
from rotations.errors import EditConflict
from rotations.execution.preconditions import RotationFacts
from rotations.models import Rotation, Step
from rotations.notifications import operator_mail
from rotations.planning.states import RotationState


class UnitOfWork(RotationFacts):
    """Known things, and what changes of them at one moment by one hand, until ``close`` writes it.

    Open it in the transaction that holds the rotations. Nobody writes beside it what it writes itself.
    """

    def __init__(self, rotations: Sequence[Rotation], *, by: Actor, now: datetime) -> None:
        super().__init__(rotations)
        self.by, self.now = by, now
        self._happened: list[AuditEvent] = []
        self._settled: dict[tuple[Any, ...], list[Step]] = defaultdict(list)
        self._moved: dict[int, tuple[Rotation, RotationState, dict[str, Any]]] = {}
        self._free: list[int] = []
        self._applied: list[tuple[Rotation, bool]] = []

    def settle(self, step: Step, *, stored: tuple[str, int], columns: Mapping[str, Any]) -> None:
        """Let columns of a step change, which is ``stored`` in this state and with so many attempts."""
        for one in (step, *(known for known in self.steps(step.rotation) if known.pk == step.pk)):
            for name, value in columns.items():
                setattr(one, name, value)
        self._settled[(stored, step.attempts, tuple(columns.items()))].append(step)

    def unblock(self, steps: Sequence[Step]) -> None:
        """Let nothing come before these steps any more."""
        for step in steps:
            step.blocked = False
        self._free += [step.pk for step in steps]

    def move(self, rotation: Rotation, before: RotationState, columns: Mapping[str, Any]) -> None:
        """Let a rotation be in another state, and other columns change with it."""
        for name, value in columns.items():
            setattr(rotation, name, value)
        _, stored, others = self._moved.get(rotation.pk, (rotation, before, {}))
        self._moved[rotation.pk] = (rotation, stored, {**others, **columns})

    def record(self, happening: AuditEvent) -> None:
        """Add an entry to the trail."""
        self._happened.append(happening)

    def applied(self, rotation: Rotation, *, late: bool) -> None:
        """Tell that a change was made."""
        self._applied.append((rotation, late))

    def close(self) -> None:
        """Write all of it, in the transaction that holds the rotations.

        Raises EditConflict where a row has changed since it was read, or IntegrityError; then nothing may stay.
        """
        self._write_steps()
        for roster in self._role_assignments.values():
            roster.save()
        self._write_rotations()
        record_many(self._happened, by=self.by, now=self.now)
        if self._applied:
            operator_mail.notify_applied(self._applied, at=self.now)

    def _write_steps(self) -> None:
        for ((state, attempts), now_attempts, columns), steps in self._settled.items():
            mine = Step.objects.filter(pk__in=[s.pk for s in steps], state=state, attempts=attempts)
            if mine.update(attempts=now_attempts, **dict(columns)) != len(steps):
                raise EditConflict(f"The step “{steps[0].title}”")
        if self._free:
            Step.objects.filter(pk__in=self._free).update(blocked=False)

    def _write_rotations(self) -> None:
        moved = list(self._moved.values())
        while moved:
            _, stored, columns = moved[0]
            alike = [rotation for rotation, *change in moved if change == [stored, columns]]
            moved = [one for one in moved if list(one[1:]) != [stored, columns]]
            mine = Rotation.objects.filter(pk__in=[rotation.pk for rotation in alike], state=stored)
            if mine.update(**columns) != len(alike):
                raise EditConflict(f"The rotation of {alike[0]}")
