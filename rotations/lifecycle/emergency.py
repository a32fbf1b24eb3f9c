"""The emergency: the old key may be known to somebody else, so everything is changed at once.

One path for it, on a rotation in whatever state it is: its plan is made anew without overlap and without waiting, all
partners are told, and our systems let go of the old certificate at once. It needs two people, or a reason why one
person does it alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor
from as2certs.background import wake_task
from rotations.errors import ActionRefused, IllegalTransition
from rotations.execution import fingerprint_check, inventory, stored_plan, transitions
from rotations.execution.unit_of_work import RotationFacts
from rotations.letters import announcements, compose
from rotations.letters.contacts import contacts_for
from rotations.lifecycle import drafts, four_eyes, rescheduling
from rotations.models import Letter, Participant, Rotation
from rotations.planning import windows
from rotations.planning.states import RotationAction, RotationState, next_state

#: Until when partners are asked to have replaced the certificate; we don't wait for it.
PARTNER_DEADLINE = timedelta(days=1)


def emergency_obstacle(rotation: Rotation, *, now: datetime) -> str:
    """Return why a rotation can't be made an emergency; empty where it can."""
    if rotation.is_emergency:
        return "This is an emergency already: everything that can be done at once is being done."
    try:
        next_state(RotationState(rotation.state), RotationAction.EMERGENCY)
    except IllegalTransition as error:
        return str(error)
    new = rotation.new
    if new is None:
        return (
            "There is no certificate yet that could take over. Make one or upload it in the draft; a new key takes "
            "seconds."
        )
    if not new.not_before <= now < new.not_after:
        return f"{new.short_name} is not valid now: choose a certificate that is."
    return drafts.error_text(drafts.successor_findings(rotation, now=now))


def needs_single_person_reason(rotation: Rotation, by: Actor) -> bool:
    """Return whether nobody but this person has looked at the rotation, so that they have to say why."""
    others = {rotation.set_up_by_id, rotation.approved_by_id} - {None, by.user.pk if by.user else None}
    return not others


def prepare_emergency(rotation: Rotation, reason: str, *, now: datetime) -> Rotation:
    """Turn a rotation into an emergency (does not save): nothing of the agreed window counts any more."""
    zone = rotation.window_zone or Installation.current().time_zone
    rotation.emergency_reason = reason
    rotation.grace_days = 0
    drafts.set_window(rotation, windows.Window(now, now + PARTNER_DEADLINE, zone))
    return rotation


@transaction.atomic
def declare_emergency(rotation: Rotation, *, reason: str, alone: str, by: Actor, now: datetime) -> Rotation:
    """Change everything at once, and tell all partners.

    ``reason`` says what happened, ``alone`` why nobody else looked at it, where nobody did. Raises ActionRefused saying
    what is missing, IllegalTransition once the rotation has ended.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.EMERGENCY)
    if found := emergency_obstacle(rotation, now=now):
        raise ActionRefused(found)
    if not reason.strip():
        raise ActionRefused("Say what happened: the reason stays in the trail.")
    if needs_single_person_reason(rotation, by) and not alone.strip():
        raise ActionRefused(
            "Nobody but you has looked at this: let somebody else press the button, or say why not."
        )
    rescheduling.require_no_running_step(rotation)
    rescheduling.require_no_held_messages(rotation)
    _add_connected_partners(rotation)
    was_draft = rotation.state == RotationState.DRAFT
    prepare_emergency(rotation, reason, now=now)
    rotation.emergency_alone = alone if needs_single_person_reason(rotation, by) else ""
    if was_draft:
        rotation.approved_by, rotation.approved_at = by.user, now
    four_eyes.clear_changes(
        rotation
    )  # an emergency has its own rule of two people, and waits for no other approval
    rotation.save()
    rotation.participants.update(
        **rescheduling.NO_AGREEMENT, **rescheduling.NO_OWN_WINDOW, taken_back_at=None
    )
    rotation.slots.all().delete()
    stored_plan.replan(rotation, now=now)
    new = {"alone": rotation.emergency_alone} if rotation.emergency_alone else {}
    transitions.apply_action(rotation, RotationAction.EMERGENCY, by=by, now=now, reason=reason, new=new)
    fingerprint_check.complete_check_step(rotation, by=by, now=now)
    _notify_partners(rotation, by=by, now=now)
    rotation = transitions.lock_rotation(
        rotation.pk
    )  # telling settles steps, which may have moved it already
    transitions.advance_rotation(rotation, by=by, now=now)
    wake_task("rotations.tasks.apply_due")
    return rotation


def _add_connected_partners(rotation: Rotation) -> None:
    """Let everybody take part that is connected by now. Raises ActionRefused when another certificate is in use."""
    if stranger := inventory.unknown_certificate(rotation, rotation.roles, RotationFacts([rotation])):
        raise ActionRefused(stranger)
    Participant.objects.bulk_create(
        Participant(rotation=rotation, partner=partner)
        for partner in drafts.newly_connected_partners(rotation)
    )


def _notify_partners(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Write to all contacts of all partners at once; who can’t be written to stays open, to be called.

    The partner whose own certificate changes told us of it.
    """
    if rotation.side == "partner":
        return
    found = rotation.participants.filter(removed_reason="").select_related("partner")
    common = compose.RotationContext.of(rotation, now=now)
    for participant in found.prefetch_related("partner__contacts").order_by("pk"):
        participant.rotation = rotation
        _notify_partner(participant, common, by=by, now=now)


def _notify_partner(
    participant: Participant, common: compose.RotationContext, *, by: Actor, now: datetime
) -> None:
    kind = Letter.Kind.EMERGENCY
    contacts = contacts_for(participant.partner, kind)
    sent = compose.send_letters(kind, participant, contacts, by=by, now=now, common=common)
    if sent:
        how = f"mail to {', '.join(contact.email for contact in contacts)}"
        announcements.record_announced(participant.rotation, participant, how, by=by, now=now)
