"""What is known of rotations while steps of theirs are settled, and what is to be written of it.

One step or hundreds: the same is asked and written by as many statements. What is settled meanwhile is known here at
once, and in the database after ``Books.close``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from as2certs.audit.recording import Actor, AuditEvent, record_many
from identities.models import Identity
from identities.role_assignments import RoleAssignments
from partners.models import Partner, SigningChoice
from rotations.errors import EditConflict
from rotations.models import Rotation, Step
from rotations.notifications import operator_mail
from rotations.planning.states import SETTLED, RotationState


class RotationFacts:
    """What some rotations stand on, each kind read by one query for all of them when it is first asked."""

    def __init__(self, rotations: Sequence[Rotation]) -> None:
        self.rotations = rotations

    def serving(self, rotation: Rotation) -> Mapping[str, Collection[Any]]:
        """Return the certificates that serve each role of a rotation's holder."""
        return self.roster(rotation).serving(rotation.holder)

    def roster(self, rotation: Rotation) -> RoleAssignments:
        """Return what serves the roles of a rotation's holder, and of the others of its kind."""
        return self._rosters[type(rotation.holder)]

    def choices(self, rotation: Rotation) -> dict[int, int]:
        """Return what signs for single partners of a rotation's identity now: choice and certificate, by their keys."""
        return self._choices.get(rotation.identity_id or 0, {})

    def steps(self, rotation: Rotation) -> list[Step]:
        """Return all steps of a rotation, without what is only shown; keep what happens to them up to date."""
        return self._steps[rotation.pk]

    def effects_to_come(self, rotation: Rotation, *, beside: Step) -> set[tuple[str, str]]:
        """Return what other steps will still do on our side for everybody: roles and moves."""
        return {
            (effect["role"], effect["move"])
            for step in self.steps(rotation)
            if step.pk != beside.pk and step.state not in SETTLED
            for effect in self._effects.get(step.pk, ())
            if effect["at"].startswith("us:")
        }

    @cached_property
    def _rosters(self) -> dict[type[Identity] | type[Partner], RoleAssignments]:
        holders: dict[Any, dict[int, Any]] = defaultdict(dict)
        for rotation in self.rotations:
            holders[type(rotation.holder)][rotation.holder.pk] = rotation.holder
        return {kind: RoleAssignments(list(some.values())) for kind, some in holders.items()}

    @cached_property
    def _choices(self) -> dict[int, dict[int, int]]:
        found: dict[int, dict[int, int]] = defaultdict(dict)
        identities = {rotation.identity_id for rotation in self.rotations if rotation.identity_id}
        if identities:
            # Mostly there are none: what more there is to know of one is asked where it matters.
            rows = SigningChoice.objects.open().filter(partnership__identity__in=identities).order_by("pk")
            for pk, certificate, identity in rows.values_list("pk", "certificate", "partnership__identity"):
                found[identity][pk] = certificate
        return found

    @cached_property
    def _steps(self) -> dict[int, list[Step]]:
        # With many partners these are thousands, read again whenever one is settled: only what is looked at.
        shown = ("roles", "evidence", "effects", "checkpoint", "title", "why", "note", "error")
        found: dict[int, list[Step]] = {rotation.pk: [] for rotation in self.rotations}
        for step in Step.objects.filter(rotation__in=list(found)).defer(*shown):
            found[step.rotation_id].append(step)
        return found

    @cached_property
    def _effects(self) -> dict[int, list[dict[str, str]]]:
        ours = Step.objects.filter(rotation__in=[rotation.pk for rotation in self.rotations])
        rows = ours.filter(participant=None).exclude(state__in=SETTLED).order_by()
        return dict(rows.values_list("pk", "effects"))


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
        for roster in self._rosters.values():
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
