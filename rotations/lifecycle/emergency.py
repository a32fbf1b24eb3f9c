"""Emergencies: the old key may be compromised, so everything is changed at once.

A rotation in any state can become one: it is planned again without overlap and without waiting, all partners are
notified, and our systems drop the old certificate at once. It needs two people, or a reason why one acts alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor
from as2certs.background import wake_task
from rotations.errors import ActionRefused, IllegalTransition
from rotations.execution import fingerprint_check, preconditions, stored_plan, transitions
from rotations.execution.preconditions import RotationFacts
from rotations.letters import announcements
from rotations.letters.contacts import contacts_for
from rotations.letters.context import LetterContext, RotationContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import drafts, four_eyes, rescheduling
from rotations.models import Letter, Participant, Rotation
from rotations.notifications import outcome_mail
from rotations.planning import windows
from rotations.planning.states import RotationAction, RotationState, next_state

#: How long partners get to replace the certificate; we don't wait for them.
PARTNER_DEADLINE = timedelta(days=1)


def emergency_obstacle(rotation: Rotation, *, now: datetime) -> str:
    """Return why a rotation can't become an emergency; empty if it can."""
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
    """Return whether nobody else set up or approved the rotation, so that this person has to give a reason."""
    others = {rotation.set_up_by_id, rotation.approved_by_id} - {None, by.user.pk if by.user else None}
    return not others


def prepare_emergency(rotation: Rotation, reason: str, *, now: datetime) -> Rotation:
    """Turn a rotation into an emergency with a new window (does not save)."""
    zone = rotation.window_zone or Installation.current().time_zone
    rotation.emergency_reason = reason
    rotation.grace_days = 0
    starts = now.replace(second=0, microsecond=0)  # people are shown windows with their seconds
    drafts.set_window(rotation, windows.Window(starts, starts + PARTNER_DEADLINE, zone))
    return rotation


@transaction.atomic
def declare_emergency(rotation: Rotation, *, reason: str, alone: str, by: Actor, now: datetime) -> Rotation:
    """Make a rotation an emergency: plan it again for now, make its steps due, and notify all partners.

    ``reason`` is what happened, ``alone`` why only one person decides, if so. Raises ActionRefused if something is
    missing, IllegalTransition once the rotation has ended.
    """
    rotation = transitions.lock_rotation(rotation.pk)
    next_state(RotationState(rotation.state), RotationAction.EMERGENCY)
    if found := emergency_obstacle(rotation, now=now):
        raise ActionRefused(found)
    if not reason.strip():
        raise ActionRefused("Say what happened: the reason stays in the trail.")
    if needs_single_person_reason(rotation, by) and not alone.strip():
        raise ActionRefused("Nobody but you has looked at this: let somebody else press the button, or say why not.")
    rescheduling.require_no_running_step(rotation)
    rescheduling.require_no_held_messages(rotation)
    _add_connected_partners(rotation)
    was_draft = rotation.state == RotationState.DRAFT
    prepare_emergency(rotation, reason, now=now)
    rotation.emergency_alone = alone if needs_single_person_reason(rotation, by) else ""
    if was_draft:
        rotation.approved_by, rotation.approved_at = by.user, now
    four_eyes.clear_changes(rotation)  # an emergency has its own rule about two people
    rotation.save()
    rotation.participants.update(**rescheduling.NO_AGREEMENT, **rescheduling.NO_OWN_WINDOW, taken_back_at=None)
    rotation.slots.all().delete()
    stored_plan.replan(rotation, now=now)
    new = {"alone": rotation.emergency_alone} if rotation.emergency_alone else {}
    transitions.apply_action(rotation, RotationAction.EMERGENCY, by=by, now=now, reason=reason, new=new)
    fingerprint_check.complete_check_step(rotation, by=by, now=now)
    _notify_partners(rotation, by=by, now=now)
    rotation = transitions.lock_rotation(rotation.pk)  # notifying completes steps, which may have changed its state
    transitions.advance_rotation(rotation, by=by, now=now)
    alone = f" Nobody else looked at it: {rotation.emergency_alone}" if rotation.emergency_alone else ""
    outcome_mail.notify_forced(rotation, "declared an emergency", f"{reason}{alone}", by=by, at=now)
    wake_task("rotations.tasks.apply_due")
    return rotation


def _add_connected_partners(rotation: Rotation) -> None:
    """Add all connected partners. Raises ActionRefused if an unknown certificate is in use."""
    if unknown := preconditions.unknown_certificate(rotation, rotation.roles, RotationFacts([rotation])):
        raise ActionRefused(unknown)
    Participant.objects.bulk_create(
        Participant(rotation=rotation, partner=partner) for partner in drafts.newly_connected_partners(rotation)
    )


def _notify_partners(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Notify all contacts of all partners. The step stays open for a partner without contacts, to be called.

    The partner whose own certificate changes is not notified: it reported the emergency.
    """
    if rotation.side == "partner":
        return
    found = rotation.participants.filter(removed_reason="").select_related("partner")
    shared = RotationContext.of(rotation, now=now)
    announced: dict[Participant, str] = {}
    for participant in found.prefetch_related("partner__contacts").order_by("pk"):
        context = LetterContext.of(participant, now=now, shared=shared)
        contacts = contacts_for(participant.partner, Letter.Kind.EMERGENCY)
        if send_letters(context, Letter.Kind.EMERGENCY, contacts, by=by):
            announced[participant] = f"mail to {', '.join(contact.email for contact in contacts)}"
    announcements.record_announced(announced, by=by, now=now)
