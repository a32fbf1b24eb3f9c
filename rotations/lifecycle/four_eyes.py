"""Four eyes: whoever set up or changed a rotation can't approve it, and a change after the approval withdraws it.

This is a setting per environment; a rotation that it bound once stays bound. It does not keep anybody from changing the
plan: whoever moves the window does so at once, and partners are notified. But no step of the changed plan is carried
out before somebody else has approved it. What the application does by itself, and what partners answer, does not
withdraw the approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from as2certs.accounts.models import Installation, User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.time_format import format_moment
from rotations.errors import ActionRefused
from rotations.execution import transitions
from rotations.models import Rotation
from rotations.notifications import outcome_mail
from rotations.planning.states import AWAITING_WINDOW, RotationAction, RotationState


def is_required(rotation: Rotation) -> bool:
    """Return whether four eyes are required in the environment of a rotation, or were at any time since its set-up."""
    return Installation.current().asks_for_four_eyes(is_test=rotation.holder.is_test, since=rotation.set_up_at)


def require_second_person(rotation: Rotation, by: Actor) -> None:
    """Raise ActionRefused if four eyes are required and this person set up or changed the rotation."""
    if by.user is None or not is_required(rotation):
        return
    changers = changed_by(rotation)
    if by.user in changers:
        deed = "changed this rotation" if rotation.is_withdrawn else "set this rotation up or changed it"
        raise ActionRefused(f"Four eyes: {_format_people(changers)} {deed}, so somebody else has to approve it.")


def changed_by(rotation: Rotation) -> list[User]:
    """Return who set up or changed a rotation since its last approval, in order."""
    links = rotation.changed_by.through._default_manager.filter(rotation=rotation)
    found = [link.user for link in links.select_related("user").order_by("pk")]
    author = rotation.set_up_by
    if rotation.state == RotationState.DRAFT and author is not None and author not in found:
        found.insert(0, author)
    return found


def record_change(rotation: Rotation, by: Actor) -> None:
    """Record who changed a rotation; call it in the transaction of the change."""
    if by.user is not None:
        rotation.changed_by.add(by.user)


def withdraw_approval(rotation: Rotation, what: str, *, by: Actor, now: datetime) -> None:
    """Withdraw the approval of a rotation if four eyes are required, because somebody changed what was approved.

    ``what`` follows their name in a sentence, such as "moved the window". Call it with the rotation locked, after the
    change and before ``advance_rotation``.
    """
    if by.source == Entry.Source.TASK or rotation.is_emergency or rotation.state not in AWAITING_WINDOW:
        return
    if not rotation.is_withdrawn:
        if not is_required(rotation):
            return
        rotation.changed_by.clear()
        because = f"{by.name} {what}"
        transitions.apply_action(
            rotation,
            RotationAction.WITHDRAW,
            by=by,
            now=now,
            reason=because,
        )
        outcome_mail.notify_approval_withdrawn(rotation, at=now)
    record_change(rotation, by)


def clear_changes(rotation: Rotation) -> None:
    """Clear who changed a rotation and the withdrawal of its approval, after an approval (does not save)."""
    rotation.changed_by.clear()
    rotation.withdrawn_at, rotation.withdrawn_because = None, ""


def withdrawal_text(rotation: Rotation, *, zone: str) -> str:
    """Return who approved a rotation, why that was withdrawn, and who can approve it; empty if it is approved."""
    if not rotation.is_withdrawn:
        return ""
    assert rotation.withdrawn_at is not None  # it is withdrawn
    approval = "Approved"
    if rotation.approved_at is not None:
        who = f" by {rotation.approved_by}" if rotation.approved_by else ""
        approval = f"Approved{who} ({format_moment(rotation.approved_at, zone)})"
    text = f"{approval}; withdrawn because {rotation.withdrawn_because} ({format_moment(rotation.withdrawn_at, zone)})."
    changers = changed_by(rotation)
    if not changers or not is_required(rotation):
        return f"{text} Somebody has to approve it again."
    since = " They all changed it since." if len(changers) > 1 else ""
    return f"{text} Somebody other than {_format_people(changers)} has to approve it again.{since}"


def withdrawal_warnings(rotation: Rotation) -> list[str]:
    """Return the warning that a change withdraws the approval of a rotation; empty if it does not."""
    if rotation.state not in AWAITING_WINDOW or rotation.is_emergency:
        return []
    if rotation.is_withdrawn:
        return ["Four eyes: the approval is withdrawn already. Whoever changes something more can’t approve it again."]
    if not is_required(rotation):
        return []
    return [
        "Four eyes: this withdraws the approval. What was agreed before does not happen any more, and nothing further "
        "is made before somebody other than you has approved it again."
    ]


def _format_people(people: Sequence[User]) -> str:
    names = [str(person) for person in people]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
