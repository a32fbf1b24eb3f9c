"""What a step that is done changes in the inventory: which certificate serves which role from that moment on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from identities.models import IdentityCertificate
from partners import signing_choices
from partners.models import Partnership
from rotations.errors import ActionRefused
from rotations.execution.preconditions import unknown_certificate
from rotations.execution.stored_plan import ROLL_BACK
from rotations.execution.unit_of_work import UnitOfWork
from rotations.models import Rotation, Step
from rotations.planning.change import Act, Move, Role
from rotations.planning.states import SETTLED


def apply_step(rotation: Rotation, step: Step, books: UnitOfWork) -> None:
    """Note what serves which role now. With several AS2 systems, the inventory moves with the last of them.

    Raises ActionRefused when a certificate that this rotation does not know holds a role that has room for one.
    """
    if step.act == Act.RETIRE and rotation.old_identity_certificate is not None:
        _end_signing_choices(rotation, books, at=books.now, certificate=rotation.old_identity_certificate)
    if step.act == Act.RETIRE and rotation.is_emergency:
        _end_old_certificate(rotation, step, books)
    mine = step.own_moves
    if not mine:
        return
    if step.participant is not None:
        _change_signing_choice(rotation, step, books)
        return
    still_to_come = books.pending_moves(rotation, beside=step)
    now_moving = {role: how for role, how in mine.items() if (role, how) not in still_to_come}
    _require_known_certificates(rotation, _replaced_roles(step, now_moving, still_to_come), books)
    for role, how in now_moving.items():
        _apply_move(rotation, step, role, how, still_to_come, books)


def _apply_move(
    rotation: Rotation,
    step: Step,
    role: str,
    how: str,
    still_to_come: Collection[tuple[str, str]],
    books: UnitOfWork,
) -> None:
    """Let what serves one role change, as a step does it."""
    roster, at = books.role_assignments(rotation), books.now
    old, new = rotation.old, rotation.new
    assert new is not None  # a plan has a successor
    if how == Move.ADD:
        roster.begin(new, role, at=at)
    elif how == Move.DROP:
        if old is not None and (role, Move.REPLACE) not in still_to_come:
            roster.end(old, role, at=at)
    elif step.act == ROLL_BACK:
        assert old is not None  # rolling back without an old certificate is refused
        _end_choices_for_default(rotation, role, books, at=roster.replace(new, old, role, at=at))
    elif (role, Move.DROP) in still_to_come:
        roster.begin(new, role, at=at)  # another AS2 system reads with both until it drops the old one
    else:
        _end_choices_for_default(rotation, role, books, at=roster.replace(old, new, role, at=at))


def _replaced_roles(
    step: Step, moving: Mapping[str, str], still_to_come: Collection[tuple[str, str]]
) -> list[str]:
    """Return the roles in which one certificate now takes the place of the other."""
    return [
        role
        for role, how in moving.items()
        if how not in (Move.ADD, Move.DROP)
        and (step.act == ROLL_BACK or (role, Move.DROP) not in still_to_come)
    ]


def _end_old_certificate(rotation: Rotation, step: Step, books: UnitOfWork) -> None:
    """In an emergency, end whatever the old certificate still serves, once the last AS2 system has let go of it."""
    if rotation.old is None or any(
        other.act in (Act.CUT_OVER, Act.RETIRE) and other.state not in SETTLED
        for other in books.steps(rotation)
        if other.pk != step.pk
    ):
        return
    for role in rotation.roles:
        books.role_assignments(rotation).end(rotation.old, role, at=books.now)


def _change_signing_choice(rotation: Rotation, step: Step, books: UnitOfWork) -> None:
    """Note what signs for one partner alone from now on. Raises ActionRefused when another certificate does."""
    assert rotation.identity is not None  # only our own signature changes partner by partner
    assert step.participant is not None
    _require_known_certificates(rotation, [Role.SIGN], books)
    back = step.act == ROLL_BACK
    certificate = rotation.old_identity_certificate if back else rotation.new_identity_certificate
    assert certificate is not None  # a plan has a successor, and a way back an old certificate
    partnership = Partnership.objects.get(identity=rotation.identity, partner=step.participant.partner)
    signing_choices.choose(partnership, certificate, at=books.now)


def _end_choices_for_default(rotation: Rotation, role: str, books: UnitOfWork, *, at: datetime) -> None:
    """Let the default sign for every partner, from the moment on at which it has changed."""
    if role == Role.SIGN:
        _end_signing_choices(rotation, books, at=at)


def _end_signing_choices(
    rotation: Rotation, books: UnitOfWork, *, at: datetime, certificate: IdentityCertificate | None = None
) -> None:
    """End what signs for single partners, where anything does; with a certificate, only that one."""
    if rotation.identity is not None and books.signing_choices(rotation):
        signing_choices.end_choices(rotation.identity, at=at, certificate=certificate)


def _require_known_certificates(rotation: Rotation, roles: Collection[str], books: UnitOfWork) -> None:
    if roles and (stranger := unknown_certificate(rotation, roles, books)):
        raise ActionRefused(stranger)
