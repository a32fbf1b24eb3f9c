"""Whether what a partner handed in was compared over another channel, and what that settles in a plan.

Until it was, or a rule of the partner stands in for it, the step that asks for it stays open, and nothing is set up
with the certificate.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import transitions
from rotations.models import HandedIn, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepAction


def unverified_submission(rotation: Rotation) -> HandedIn | None:
    """Return what was handed in as a rotation's successor and nobody has accepted yet."""
    if rotation.new_partner_certificate_id is None:
        return None
    return HandedIn.objects.pending().filter(certificate_id=rotation.new_partner_certificate_id).first()


def require_compared(rotation: Rotation, step: Step) -> None:
    """Refuse to settle the comparison by a mere word where a stranger may have handed the certificate in.

    Raises ActionRefused.
    """
    if step.act == Act.CHECK and unverified_submission(rotation) is not None:
        raise ActionRefused(
            f"The certificate came by a link. Compare its fingerprint with {rotation.holder} over another channel, and "
            "record with whom: that settles this step."
        )


def check_step(rotation: Rotation) -> Step | None:
    """Return the step in which the fingerprint is compared; None before a plan is approved that has one."""
    return rotation.steps.filter(act=Act.CHECK).first()


@transaction.atomic
def settle_submission(
    handed: HandedIn,
    *,
    accepted: bool,
    verb: str,
    spoke_with: str,
    channel: str,
    note: str,
    by: Actor,
    now: datetime,
) -> list[Rotation]:
    """Accept or refuse a certificate for all that it was handed in for, and return the running rotations to it.

    Where it is accepted, the steps that wait for that are settled. Raises EditConflict.
    """
    certificate, partner = handed.certificate, handed.partner
    coming = Rotation.objects.running().filter(new_partner_certificate=certificate).order_by("pk")
    rotations = [transitions.lock_rotation(pk) for pk in coming.values_list("pk", flat=True)]
    waiting = HandedIn.objects.pending().filter(partner=partner, certificate=certificate)
    if not waiting.update(
        accepted=accepted,
        settled_at=now,
        settled_by=by.name,
        spoke_with=spoke_with,
        channel=channel,
        note=note,
    ):
        raise EditConflict(f"What {partner} handed in")
    handed.refresh_from_db()
    told = {"spoke with": spoke_with, "over": channel} if spoke_with or channel else {}
    record(AuditEvent(verb, certificate, also=[partner, *rotations], new=told, reason=note), by=by, now=now)
    if accepted:
        for rotation in rotations:
            complete_check_step(rotation, by=by, now=now)
    return rotations


def complete_check_step(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Complete the step in which the fingerprint is compared, where its certificate was accepted before."""
    accepted = HandedIn.objects.filter(
        certificate_id=rotation.new_partner_certificate_id, accepted=True
    ).first()
    step = check_step(rotation)
    if accepted is None or step is None or step.state in SETTLED:
        return
    transitions.settle_step(
        step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=describe_settlement(accepted)
    )


def describe_settlement(handed: HandedIn) -> str:
    """Say in one line how a certificate that was handed in came to be accepted or refused."""
    assert handed.settled_at is not None  # asked for what is settled
    when = format_moment(handed.settled_at, "UTC", "day")
    if not handed.accepted:
        return f"{handed.settled_by} refused it on {when}: {handed.note}"
    if not handed.spoke_with:
        return f"accepted on {when}: {handed.note}"
    over = f" ({handed.channel})" if handed.channel else ""
    return f"{handed.settled_by} compared it with {handed.spoke_with}{over} on {when}"
