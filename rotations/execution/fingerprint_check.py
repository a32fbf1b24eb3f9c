"""Accept or refuse certificates that partners submitted, and complete the steps that compare their fingerprints.

Until the fingerprint was compared over another channel, or a rule of the partner replaces that, the step stays open and
no rotation to the certificate is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from rotations.errors import ActionRefused, EditConflict
from rotations.execution import transitions
from rotations.models import HandedIn, Rotation, Sighting, Step
from rotations.models.evidence import EarlyEvidence
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepAction


def unverified_submission(rotation: Rotation) -> HandedIn | None:
    """Return the submission of a rotation's successor that nobody has accepted or refused yet."""
    if rotation.new_partner_certificate_id is None:
        return None
    return HandedIn.objects.pending().filter(certificate_id=rotation.new_partner_certificate_id).first()


def require_compared(rotation: Rotation, step: Step) -> None:
    """Raise ActionRefused for the comparison of a submitted certificate: only the fingerprint itself settles that.

    Anybody who has the link may have submitted it.
    """
    if step.act == Act.CHECK and unverified_submission(rotation) is not None:
        raise ActionRefused(
            f"The certificate came by a link. Compare its fingerprint with {rotation.holder} over another channel, and "
            "record with whom: that settles this step."
        )


def check_step(rotation: Rotation) -> Step | None:
    """Return the step in which the fingerprint is compared, if the plan has one."""
    return rotation.steps.filter(act=Act.CHECK).first()


def uncompared_evidence(rotation: Rotation) -> EarlyEvidence | None:
    """Return what is to be done since the partner signs with a certificate of an approved rotation nobody compared.

    None while no message showed that, and once the fingerprint was compared.
    """
    step = check_step(rotation)
    if step is None or step.state in SETTLED:
        return None
    seen = Sighting.objects.filter(participant__rotation=rotation, verdict=Sighting.Verdict.NEW)
    if not seen.filter(use=Sighting.Use.SIGNED).exists():
        return None
    submission = unverified_submission(rotation)
    sentence = f"{rotation.holder} already signs with a certificate that you have not compared: compare it now."
    return EarlyEvidence("compare", sentence, "Compare it", (submission or rotation).get_absolute_url())


@dataclass(frozen=True)
class SubmissionDecision:
    """Whether a submitted certificate is accepted, by a comparison with whom over which channel or by rule, and why."""

    accepted: bool
    note: str
    spoke_with: str = ""
    channel: str = ""
    by_rule: bool = False

    @property
    def verb(self) -> str:
        """Return the verb of the audit entry."""
        if not self.accepted:
            return "certificate.refused"
        return "certificate.accepted_by_rule" if self.by_rule else "certificate.accepted"


@transaction.atomic
def settle_submission(handed: HandedIn, decision: SubmissionDecision, *, by: Actor, now: datetime) -> list[Rotation]:
    """Accept or refuse a submitted certificate wherever it was submitted; return the running rotations to it.

    Where it is accepted, their steps that wait for that are completed. Raises EditConflict.
    """
    certificate, partner = handed.certificate, handed.partner
    spoke_with, channel, note = decision.spoke_with, decision.channel, decision.note
    coming = Rotation.objects.running().filter(new_partner_certificate=certificate).order_by("pk")
    rotations = [transitions.lock_rotation(pk) for pk in coming.values_list("pk", flat=True)]
    pending = HandedIn.objects.pending().filter(partner=partner, certificate=certificate)
    if not pending.update(
        accepted=decision.accepted,
        settled_at=now,
        settled_by=by.name,
        spoke_with=spoke_with,
        channel=channel,
        note=note,
    ):
        raise EditConflict(f"What {partner} handed in")
    handed.refresh_from_db()
    new = {"spoke with": spoke_with, "over": channel} if spoke_with or channel else {}
    event = AuditEvent(decision.verb, certificate, also=[partner, *rotations], new=new, reason=note)
    record(event, by=by, now=now)
    if decision.accepted:
        for rotation in rotations:
            complete_check_step(rotation, by=by, now=now)
    return rotations


def complete_check_step(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Complete the step in which the fingerprint is compared, if the certificate is accepted already."""
    accepted = HandedIn.objects.filter(certificate_id=rotation.new_partner_certificate_id, accepted=True).first()
    step = check_step(rotation)
    if accepted is None or step is None or step.state in SETTLED:
        return
    transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=describe_settlement(accepted))


def describe_settlement(handed: HandedIn) -> str:
    """Return in one line how a submitted certificate was accepted or refused."""
    assert handed.settled_at is not None  # asked for what is settled
    when = format_moment(handed.settled_at, "UTC", "day")
    if not handed.accepted:
        return f"{handed.settled_by} refused it on {when}: {handed.note}"
    if not handed.spoke_with:
        return f"accepted on {when}: {handed.note}"
    over = f" ({handed.channel})" if handed.channel else ""
    return f"{handed.settled_by} compared it with {handed.spoke_with}{over} on {when}"
