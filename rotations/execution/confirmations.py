"""What partners say to a rotation: that they installed it, agree to its window, or that nobody waits for them.

The same functions for both doors: an operator who records what was said on the telephone, and the partner's page.
What else partners may say is in ``rotations.exchange.responses``.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from rotations.errors import ActionRefused, FingerprintMismatch
from rotations.execution import fingerprint_check, transitions
from rotations.models import Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepAction

#: What a partner's word completes: being told, installing, agreeing to the window.
CONFIRMED_ACTS = (Act.ANNOUNCE, Act.INSTALL, Act.AGREE)


def require_not_ended(rotation: Rotation) -> None:
    """Refuse to change what has ended. Raises ActionRefused."""
    if rotation.ended_at is not None:
        raise ActionRefused(f"This rotation has ended ({rotation.get_state_display()}).")


@transaction.atomic
def confirm(
    participant: Participant,
    *,
    fingerprint: str,
    agreed: bool,
    spoke_with: str,
    note: str | None,
    by: Actor,
    now: datetime,
    installed: bool = True,
    another_channel: bool = True,
    channel: str = "",
) -> Participant:
    """Record what a partner said: that it installed the certificate, with the fingerprint it read out; the window.

    ``fingerprint`` may be in any spelling, or empty for a mere word, which never weakens an earlier match. Where it
    matches ours, the partner has installed it; a partner's own is checked by that, if it was compared over
    ``another_channel`` than the one by which it came; ``channel`` says which, in words. Ours is recognised by its
    SHA-1 too; a partner's is compared by its SHA-256 alone, since others can be made with the same SHA-1. Without
    ``installed`` only the window is settled, or nothing but the note is kept; None leaves the earlier note as it is.
    Raises FingerprintMismatch when the fingerprint is another certificate's, ActionRefused, and PkiError when it is
    none.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_approved(rotation)
    require_participating(rotation, participant)
    strong = bool(fingerprint.strip()) and _matches_successor(rotation, fingerprint)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    if strong:
        participant.evidence = Participant.Evidence.STRONG
        participant.fingerprint = pki.normalise_fingerprint(fingerprint, sha1=True)
    elif installed and participant.evidence != Participant.Evidence.STRONG:
        participant.evidence = Participant.Evidence.WEAK
    installed = installed or (strong and rotation.side == "own")
    participant.confirmed_at = now if installed else participant.confirmed_at
    participant.agreed_at = now if agreed else participant.agreed_at
    participant.confirmed_with = spoke_with
    if note is not None:
        participant.note = note
    if installed or agreed:
        clear_refusal(participant)
    if agreed:
        clear_proposal(participant)
    participant.save()
    record(
        AuditEvent(
            "participant.confirmed",
            rotation,
            also=[rotation.holder, participant.partner],
            new={
                "evidence": participant.evidence,
                "installed": installed,
                "agreed": agreed,
                "spoke with": spoke_with,
                **({"channel": channel} if channel else {}),
            },
            reason=note or "",
        ),
        by=by,
        now=now,
    )
    if strong and another_channel and (handed := fingerprint_check.unverified_submission(rotation)):
        decision = fingerprint_check.SubmissionDecision(
            True, "certificate.accepted", note or "", spoke_with or str(participant.partner)
        )
        fingerprint_check.settle_submission(handed, decision, by=by, now=now)
    settled_by = {
        Act.CHECK: strong and another_channel,
        Act.ANNOUNCE: agreed or installed,
        Act.INSTALL: installed,
        Act.AGREE: agreed,
    }
    for step in [step for step in open_steps(participant, *settled_by) if settled_by[Act(step.act)]]:
        transitions.settle_step(
            step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=_step_note(participant, channel)
        )
    return participant


def require_approved(rotation: Rotation) -> None:
    """Refuse what needs an approved rotation that goes on. Raises ActionRefused."""
    if rotation.state == RotationState.DRAFT:
        raise ActionRefused("Approve the plan first: only then is it known what each partner has to confirm.")
    require_not_ended(rotation)


def require_participating(rotation: Rotation, participant: Participant) -> None:
    """Refuse what a partner that was left out can't do. Raises ActionRefused."""
    if rotation.participants.exclude(removed_reason="").filter(pk=participant.pk).exists():
        raise ActionRefused(f"{participant.partner} takes no part in this rotation.")


def open_steps(participant: Participant, *acts: str) -> list[Step]:
    """Return the steps that this partner's word settles, in their order, as long as they are open."""
    return list(participant.steps.filter(act__in=acts).exclude(state__in=SETTLED).order_by("position"))


def _step_note(participant: Participant, channel: str) -> str:
    over = f" {channel}" if channel else ""
    how = f"read out the fingerprint{over}, which matches" if participant.evidence == "strong" else "said so"
    return f"{participant.confirmed_with or participant.partner} {how}"


def _matches_successor(rotation: Rotation, fingerprint: str) -> bool:
    """Compare a fingerprint that was read out with the successor's. Raises FingerprintMismatch when it is another's."""
    said = pki.normalise_fingerprint(fingerprint, sha1=rotation.side == "own")
    new, old = rotation.new, rotation.old
    assert new is not None  # approved rotations have a successor
    if said in (new.sha256, new.sha1):
        return True
    if old is not None and said in (old.sha256, old.sha1):
        raise FingerprintMismatch(
            "That is the fingerprint of the old certificate: the partner looked at the one that it already had. "
            f"The new one's begins with {pki.format_fingerprint(new.sha256)[:11]}.",
            is_old=True,
        )
    raise FingerprintMismatch(
        "That is the fingerprint of neither the old nor the new certificate. The new one's is "
        f"{pki.format_fingerprint(new.sha256)}: ask what exactly the partner has installed.",
        is_old=False,
    )


@transaction.atomic
def waive(participant: Participant, *, reason: str, by: Actor, now: datetime) -> None:
    """Go on without a partner's confirmation, with a reason. Raises ActionRefused."""
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_approved(rotation)
    require_participating(rotation, participant)
    if not reason.strip():
        raise ActionRefused("Say why the change may go on without this partner's confirmation.")
    rotation.participants.filter(pk=participant.pk).update(waived_reason=reason)
    record(
        AuditEvent(
            "participant.waived", rotation, also=[rotation.holder, participant.partner], reason=reason
        ),
        by=by,
        now=now,
    )
    for step in open_steps(participant, *CONFIRMED_ACTS):
        transitions.settle_step(step, StepAction.SKIP, by=by, now=now, note=f"waived: {reason}")


def record_agreement(
    rotation: Rotation, participants: Collection[Participant], *, by: Actor, now: datetime
) -> None:
    """Record that partners agreed to a rotation's window by what they said before: they proposed it, or chose it.

    Call it in the transaction in which the window became that.
    """
    agreed = rotation.participants.filter(pk__in=[p.pk for p in participants], removed_reason="")
    agreed.update(agreed_at=now, declined_at=None, declined_reason="")
    for participant in agreed.select_related("partner"):
        record(
            AuditEvent(
                "participant.agreed",
                rotation,
                also=[rotation.holder, participant.partner],
                new={"partner": participant.partner.name},
            ),
            by=by,
            now=now,
        )
        for step in open_steps(participant, Act.AGREE):
            note = f"{participant.partner} had said that it can then"
            transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=note)


def clear_refusal(participant: Participant) -> None:
    """Forget that a partner said no, since it says something else now (does not save)."""
    participant.declined_at, participant.declined_reason = None, ""


def clear_proposal(participant: Participant) -> None:
    """Forget the other time that a partner proposed (does not save)."""
    participant.proposed_at = participant.proposed_start = participant.proposed_end = None
    participant.proposed_zone = participant.proposed_note = ""


def lock_for_answer(participant: Participant) -> tuple[Rotation, Participant]:
    """Return rotation and participant as they are now, held until the end of the transaction. Raises ActionRefused."""
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_approved(rotation)
    require_participating(rotation, participant)
    return rotation, rotation.participants.select_related("partner").get(pk=participant.pk)
