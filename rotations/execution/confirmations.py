"""Record what partners answer: that they have installed the certificate, agree to the window, or are waived.

Operators who record a telephone call and the partner's own page call the same functions. Other answers are recorded by
``rotations.exchange.responses``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from rotations.errors import ActionRefused, FingerprintMismatch
from rotations.execution import fingerprint_check, stored_plan, transitions
from rotations.models import Participant, Rotation, Step
from rotations.notifications import outcome_mail
from rotations.notifications.texts import format_names
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepAction

#: Columns of a participant without an objection.
NO_OBJECTION: dict[str, object] = {
    "declined_at": None,
    "declined_reason": "",
    "proposed_at": None,
    "proposed_start": None,
    "proposed_end": None,
    "proposed_zone": "",
    "proposed_note": "",
}

#: Acts that a partner's answer completes.
CONFIRMED_ACTS = (Act.ANNOUNCE, Act.INSTALL, Act.AGREE)


def require_not_ended(rotation: Rotation) -> None:
    """Raise ActionRefused if a rotation has ended."""
    if rotation.ended_at is not None:
        raise ActionRefused(f"This rotation has ended ({rotation.get_state_display()}).")


@dataclass(frozen=True)
class PartnerAnswer:
    """Who answered for a partner and how, recorded by whom and when.

    ``note`` None leaves the earlier note as it is; ``channel`` names the channel in words. ``another_channel`` is false
    where the answer came over the channel by which a certificate of the partner's came: it can't confirm that.
    """

    spoke_with: str
    by: Actor
    now: datetime
    note: str | None = ""
    channel: str = ""
    another_channel: bool = True


def confirm_installation(
    participant: Participant, answer: PartnerAnswer, *, fingerprint: str = "", agreed: bool = False
) -> Participant:
    """Record that a partner has installed the certificate, and whether it agrees to the window.

    See ``record_answer`` for ``fingerprint`` and for the errors.
    """
    return record_answer(participant, answer, fingerprint=fingerprint, installed=True, agreed=agreed)


def agree_to_window(participant: Participant, answer: PartnerAnswer) -> Participant:
    """Record that a partner agrees to the window. Raises ActionRefused."""
    return record_answer(participant, answer, fingerprint="", installed=False, agreed=True)


@transaction.atomic
def record_answer(
    participant: Participant, answer: PartnerAnswer, *, fingerprint: str, installed: bool, agreed: bool
) -> Participant:
    """Record all that a partner answered at once, and settle the steps that this completes.

    ``fingerprint`` is what the partner read out, in any spelling; empty is a mere word, which never weakens an earlier
    match. Where it matches ours, the partner has installed our certificate; where it matches the partner's own, that
    is checked, if it came over another channel. Ours is recognised by its SHA-1 too; a partner's only by its SHA-256,
    because another certificate with the same SHA-1 can be made. Raises FingerprintMismatch when it belongs to another
    certificate, PkiError when it is no fingerprint, and ActionRefused.

    Where each partner changes when it is ready, the installation withdraws a waiver.
    """
    rotation, participant = lock_for_answer(participant)
    matches = bool(fingerprint.strip()) and _matches_successor(rotation, fingerprint)
    if matches:
        participant.evidence = Participant.Evidence.STRONG
        participant.fingerprint = pki.normalise_fingerprint(fingerprint, sha1=True)
    elif installed and participant.evidence != Participant.Evidence.STRONG:
        participant.evidence = Participant.Evidence.WEAK
    installed = installed or (matches and rotation.side == "own")
    waiver = _store_answer(participant, answer, installed=installed, agreed=agreed)
    new = {
        "evidence": participant.evidence,
        "installed": installed,
        "agreed": agreed,
        "spoke with": answer.spoke_with,
        **({"channel": answer.channel} if answer.channel else {}),
        **waiver,
    }
    event = participant.audit_event("participant.confirmed", new=new, reason=answer.note or "")
    record(event, by=answer.by, now=answer.now)
    is_checked = matches and answer.another_channel
    if is_checked and (submission := fingerprint_check.unverified_submission(rotation)):
        decision = fingerprint_check.SubmissionDecision(
            accepted=True, spoke_with=answer.spoke_with or str(participant.partner), note=answer.note or ""
        )
        fingerprint_check.settle_submission(submission, decision, by=answer.by, now=answer.now)
    completes = {
        Act.CHECK: is_checked,
        Act.ANNOUNCE: agreed or installed,
        Act.INSTALL: installed,
        Act.AGREE: agreed,
    }
    note = _step_note(participant, answer.channel, matches=matches)
    for step in open_steps(participant, *(act for act, completed in completes.items() if completed)):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=answer.by, now=answer.now, note=note)
    _go_on(rotation, by=answer.by, now=answer.now)
    if rotation.is_phased:
        wake_task("rotations.tasks.apply_due")
    return participant


@transaction.atomic
def record_probe_accepted(participant: Participant, *, by: Actor, now: datetime) -> None:
    """Record that a partner accepted a test message with our new certificate: it has installed that.

    Raises ActionRefused.
    """
    rotation, participant = lock_for_answer(participant)
    participant.evidence = Participant.Evidence.STRONG
    participant.probe_accepted_at, participant.probe_refused_at = now, None
    waiver = _store_answer(participant, PartnerAnswer("", by, now, note=None), installed=True, agreed=False)
    record(participant.audit_event("participant.probe_accepted", new=waiver), by=by, now=now)
    for step in open_steps(participant, Act.ANNOUNCE, Act.INSTALL):
        note = f"{participant.partner} accepted a test message that was signed with it"
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=by, now=now, note=note)
    _go_on(rotation, by=by, now=now)
    if rotation.is_phased:
        wake_task("rotations.tasks.apply_due")


@transaction.atomic
def record_probe_refused(participant: Participant, *, by: Actor, now: datetime) -> bool:
    """Record that a partner did not accept a test message with our new certificate.

    Returns whether that contradicts what it had confirmed: then that is not proven any more, and the change waits until
    it accepts one, confirms the installation again, or is waived. Raises ActionRefused.
    """
    rotation, participant = lock_for_answer(participant)
    participant.probe_accepted_at, participant.probe_refused_at = None, now
    if participant.evidence:
        participant.evidence = Participant.Evidence.WEAK
    participant.save()
    record(participant.audit_event("participant.probe_refused"), by=by, now=now)
    _go_on(rotation, by=by, now=now)
    return participant.contradicts_confirmation


def _store_answer(participant: Participant, answer: PartnerAnswer, *, installed: bool, agreed: bool) -> dict[str, str]:
    """Store an answer in the participant's columns; return the waiver that it withdraws, for the audit trail."""
    waiver = {}
    if installed and participant.changes_when_ready and participant.waived_reason:
        # It is ready after all: we change for it now, rather than at the end.
        waiver["waiver withdrawn"], participant.waived_reason = participant.waived_reason, ""
        stored_plan.resume_when_ready(participant, now=answer.now)
    participant.confirmed_at = answer.now if installed else participant.confirmed_at
    participant.agreed_at = answer.now if agreed else participant.agreed_at
    participant.confirmed_with = answer.spoke_with
    if answer.note is not None:
        participant.note = answer.note
    if installed or agreed:
        clear_refusal(participant)
    if agreed:
        clear_proposal(participant)
    participant.save()
    return waiver


def require_approved(rotation: Rotation) -> None:
    """Raise ActionRefused if a rotation is not approved yet, or has ended."""
    if rotation.state == RotationState.DRAFT:
        raise ActionRefused("Approve the plan first: only then is it known what each partner has to confirm.")
    require_not_ended(rotation)


def require_participating(rotation: Rotation, participant: Participant) -> None:
    """Raise ActionRefused if a participant was removed from a rotation."""
    if rotation.participants.exclude(removed_reason="").filter(pk=participant.pk).exists():
        raise ActionRefused(f"{participant.partner} takes no part in this rotation.")


def open_steps(participant: Participant, *acts: str) -> list[Step]:
    """Return the open steps of a participant with one of these acts, in their order."""
    return list(participant.steps.filter(act__in=acts).exclude(state__in=SETTLED).order_by("position"))


def _step_note(participant: Participant, channel: str, *, matches: bool) -> str:
    if matches:
        how = f"{f'read out the fingerprint {channel}' if channel else 'gave the fingerprint'}, which matches"
    else:
        how = "said so"
    return f"{participant.confirmed_with or participant.partner} {how}"


def _matches_successor(rotation: Rotation, fingerprint: str) -> bool:
    """Return True if a fingerprint is the successor's. Raises FingerprintMismatch if it is another certificate's."""
    fingerprint = pki.normalise_fingerprint(fingerprint, sha1=rotation.side == "own")
    new, old = rotation.new, rotation.old
    assert new is not None  # approved rotations have a successor
    if fingerprint in (new.sha256, new.sha1):
        return True
    if old is not None and fingerprint in (old.sha256, old.sha1):
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
def waive(participant: Participant, *, reason: str, by: Actor, now: datetime, notify: bool = True) -> None:
    """Waive a partner's confirmation for a reason: its open steps are skipped. Raises ActionRefused.

    Where each partner changes when it is ready, we change for this one at the end only.
    With ``notify``, our people are notified; whoever waives several calls ``notify_waived`` once instead.
    """
    rotation, participant = lock_for_answer(participant)
    if not reason.strip():
        raise ActionRefused("Say why the change may go on without this partner's confirmation.")
    rotation.participants.filter(pk=participant.pk).update(waived_reason=reason)
    record(
        AuditEvent("participant.waived", rotation, also=[rotation.holder, participant.partner], reason=reason),
        by=by,
        now=now,
    )
    stored_plan.defer_to_end(participant)
    for step in open_steps(participant, *CONFIRMED_ACTS):
        transitions.settle_step(step, StepAction.SKIP, by=by, now=now, note=f"waived: {reason}")
    _go_on(rotation, by=by, now=now)
    if notify:
        notify_waived(rotation, [participant.partner.name], reason=reason, by=by, now=now)


def notify_waived(rotation: Rotation, partners: Sequence[str], *, reason: str, by: Actor, now: datetime) -> None:
    """Notify our people that a change goes on without these partners (names)."""
    decision = f"decided to go on without {format_names(partners)}"
    outcome_mail.notify_forced(rotation, decision, reason, by=by, at=now)


def record_agreement(rotation: Rotation, participants: Collection[Participant], *, by: Actor, now: datetime) -> None:
    """Record that partners agree to a new window because they had proposed or chosen it.

    Call it in the transaction that changes the window.
    """
    agreed = rotation.participants.filter(pk__in=[p.pk for p in participants], removed_reason="")
    agreed.update(agreed_at=now, **NO_OBJECTION)
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
    _go_on(rotation, by=by, now=now)


def _go_on(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Advance a rotation that waited for a decision about an objection only, so that no step was left to settle."""
    transitions.advance_rotation(transitions.lock_rotation(rotation.pk), by=by, now=now)


def clear_refusal(participant: Participant) -> None:
    """Clear a partner's refusal, which another answer replaces (does not save)."""
    participant.declined_at, participant.declined_reason = None, ""


def clear_proposal(participant: Participant) -> None:
    """Clear the other time that a partner proposed (does not save)."""
    participant.proposed_at = participant.proposed_start = participant.proposed_end = None
    participant.proposed_zone = participant.proposed_note = ""


def lock_for_answer(participant: Participant) -> tuple[Rotation, Participant]:
    """Return rotation and participant as they are now, locked for an answer. Raises ActionRefused."""
    rotation = transitions.lock_rotation(participant.rotation_id)
    require_approved(rotation)
    require_participating(rotation, participant)
    return rotation, rotation.participants.select_related("partner").get(pk=participant.pk)
