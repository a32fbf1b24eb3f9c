"""What the answers to test messages mean for rotations, and which test messages are sent for them.

Before the change, a test message that is signed with the new certificate proves more than a fingerprint: the partner
accepts it, or does not. After the change, an accepted one completes the test.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from as2certs.as2 import VerdictKind
from as2certs.audit.recording import Actor
from as2certs.background_jobs import BUSY
from identities.stations import Environment
from partners import signing_choices
from partners.errors import ProbeRefused
from partners.models import PartnerRole, PartnerService, Partnership, Probe, ProbeQuerySet
from partners.probes import requests
from rotations.errors import ActionRefused, RotationError
from rotations.execution import confirmations, transitions
from rotations.execution.transitions import lock_rotation
from rotations.models import Participant, Rotation, Step
from rotations.notifications import exchange_mail
from rotations.notifications.exchange_mail import News, PartnerNews
from rotations.planning.change import Act, Role
from rotations.planning.states import RotationState, StepAction, StepState

log = logging.getLogger(__name__)

#: States before the change, in which a test message shows whether a partner is ready.
BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)
#: States in which a test can be open.
AFTER_CHANGE = (RotationState.UNDER_WAY, RotationState.APPLIED)
#: So many tests are begun at once; the next run begins others.
BATCH_SIZE = 50


def apply_verdict(probe: Probe, now: datetime) -> None:
    """Apply the verdict on a test message to the participant that it concerns, in the transaction that stores it.

    What a rotation refuses in its present state is logged: the verdict is stored all the same.
    """
    _note_regular(probe, now)
    participant = _concerned(probe)
    if participant is None:
        return
    try:
        with transaction.atomic():
            _apply(probe, participant, now=now)
    except RotationError as error:
        log.warning("The verdict on the test message %s changes nothing: %s", probe.uid, error)


def _note_regular(probe: Probe, now: datetime) -> None:
    """Store since when regular test messages are not accepted; an accepted one that a person sent ends that too."""
    rows = Partnership.objects.filter(pk=probe.partnership_id)
    is_regular = probe.purpose == Probe.Purpose.REGULAR
    if probe.is_accepted and (is_regular or _uses_what_is_in_use(probe, now)):
        rows.filter(probes_fail_since__isnull=False).update(probes_fail_since=None, probes_fail_notified_at=None)
    elif is_regular and not probe.is_accepted:
        rows.filter(probes_fail_since=None, probe_interval_days__gt=0).update(probes_fail_since=now)


def _uses_what_is_in_use(probe: Probe, now: datetime) -> bool:
    return (probe.signing_certificate, probe.encryption_certificate) == (
        signing_choices.signing_certificate_at(probe.partnership, now),
        requests.encryption_certificate(probe.partnership),
    )


def _apply(probe: Probe, participant: Participant, *, now: datetime) -> None:
    rotation = lock_rotation(participant.rotation_id)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    is_before = rotation.side == "own" and _is_before_change(rotation, participant)
    if probe.is_accepted:
        if is_before:
            confirmations.record_probe_accepted(participant, by=Actor.runner(), now=now)
        elif rotation.state in AFTER_CHANGE:
            _complete_test(participant, probe, now=now)
    elif is_before and probe.kind == VerdictKind.SIGNATURE_NOT_ACCEPTED:
        _record_refusal(rotation, participant, probe, now=now)


def _is_before_change(rotation: Rotation, participant: Participant) -> bool:
    """Return whether the change with a participant is still ahead; where we sign per partner, others may be done."""
    if rotation.state == RotationState.UNDER_WAY:
        return participant.steps.filter(act=Act.CUT_OVER).unsettled().exists()
    return rotation.state in BEFORE_CHANGE


def _concerned(probe: Probe) -> Participant | None:
    """Return the participant whose new certificate a test message used; None if there is none."""
    ours = Q(rotation__new_identity_certificate=probe.signing_certificate_id)
    theirs = Q(rotation__new_partner_certificate=probe.encryption_certificate_id)
    found = Participant.objects.filter(
        ours | theirs,
        partner=probe.partnership.partner_id,
        removed_reason="",
        rotation__state__in=(*BEFORE_CHANGE, *AFTER_CHANGE),
    )
    for participant in found.select_related("rotation").order_by("-rotation_id"):
        if proving_role(participant.rotation) in participant.rotation.roles:
            return participant
    return None


def proving_role(rotation: Rotation) -> Role:
    """Return the role of the new certificate that a test message of ours can prove."""
    return Role.SIGN if rotation.side == "own" else Role.ENCRYPT


def _complete_test(participant: Participant, probe: Probe, *, now: datetime) -> None:
    """Complete the tests with a partner; where its signature changes too, only if its MDN has the new one."""
    rotation, signer = participant.rotation, probe.facts.get("mdn_signer", {})
    assert rotation.new is not None  # approved rotations have a successor
    if Role.VERIFY in rotation.roles and signer.get("sha256") != rotation.new.sha256:
        return
    for step in participant.steps.filter(act=Act.TEST, state=StepState.WAITING, blocked=False):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=Actor.runner(), now=now, note=probe.sentence)


def _record_refusal(rotation: Rotation, participant: Participant, probe: Probe, *, now: datetime) -> None:
    """Record that a partner does not accept our new signature; notify our people if it had confirmed the opposite."""
    if not confirmations.record_probe_refused(participant, by=Actor.runner(), now=now):
        return
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    participant.rotation = rotation
    text = f"{participant.partner} does not accept the new certificate, although it had confirmed the installation."
    advice = f"A test message showed it: {probe.sentence} {probe.next_step}"
    news = PartnerNews(News.NOT_ACCEPTED, text, advice=advice)
    exchange_mail.notify_partner_response(participant, news, at=now)


def find_partnership(participant: Participant) -> Partnership | None:
    """Return the connection over which a participant gets test messages, of several the oldest.

    Takes no query if the partner's ``partnerships__identity`` are prefetched.
    """
    rotation = participant.rotation
    usable = [
        partnership
        for partnership in participant.partner.partnerships.all()
        if partnership.archived_at is None
        and partnership.identity.archived_at is None
        and rotation.identity_id in (None, partnership.identity_id)
    ]
    return min(usable, key=lambda partnership: partnership.pk, default=None)


def probes_with_new(rotation: Rotation) -> ProbeQuerySet:
    """Return the test messages that used the new certificate of a rotation, the newest first."""
    if rotation.side == "own":
        return Probe.objects.filter(signing_certificate=rotation.new_identity_certificate_id)
    return Probe.objects.filter(encryption_certificate=rotation.new_partner_certificate_id)


def find_obstacle(participant: Participant) -> str:
    """Return why no test message with the new certificate can be sent to a participant; empty if one can."""
    return _obstacle(participant, find_partnership(participant))


def _obstacle(participant: Participant, partnership: Partnership | None) -> str:
    rotation = participant.rotation
    if partnership is None:
        return f"{participant.partner} is connected with none of our identities any more."
    if rotation.state not in (*BEFORE_CHANGE, *AFTER_CHANGE) or proving_role(rotation) not in rotation.roles:
        return "A test message of ours shows nothing of the new certificate here."
    return requests.find_obstacle(partnership)


def request_probe(
    participant: Participant, *, by: Actor, now: datetime, purpose: str = Probe.Purpose.REQUESTED
) -> Probe:
    """Queue a test message with the new certificate of the rotation. Raises ActionRefused."""
    partnership, spec = _spec(participant, purpose, now=now)
    try:
        return requests.request_probe(partnership, spec, by=by, now=now)
    except ProbeRefused as error:
        raise ActionRefused(str(error)) from error


def _spec(participant: Participant, purpose: str, *, now: datetime) -> tuple[Partnership, requests.ProbeSpec]:
    """Return the connection and the certificates: the new one of the rotation, and the one in use of the other side."""
    rotation, partner, partnership = participant.rotation, participant.partner, find_partnership(participant)
    if obstacle := _obstacle(participant, partnership):
        raise ActionRefused(obstacle)
    assert partnership is not None  # _obstacle has checked it
    signing = rotation.new_identity_certificate or signing_choices.signing_certificate_at(partnership, now)
    encryption = rotation.new_partner_certificate or requests.encryption_certificate(partnership)
    if signing is None:
        raise ActionRefused(f"No certificate of {partnership.identity} is in use to sign with.")
    if encryption is None:
        raise ActionRefused(f"No certificate of {partner} is in use to encrypt to: upload it first.")
    spec = requests.ProbeSpec(signing, encryption, purpose, requests.asked_async_mdn(partnership))
    return partnership, spec


def request_after_change(*, now: datetime) -> int:
    """Queue a test message for each open test after a change, where one can be sent, once; return how many.

    Whoever can't get one is left to our people, as is one whose message was not accepted. The query leaves them out,
    so that they do not take the place of others in a batch.
    """
    partner = OuterRef("participant__partner")
    allowed = Partnership.objects.active().filter(
        Q(allows_probes=True) | Q(identity__environment=Environment.TEST), partner=partner, identity__archived_at=None
    )
    encrypting = PartnerService.objects.open().filter(partner=partner, role=PartnerRole.ENCRYPT)
    used = Q(signing_certificate=OuterRef("rotation__new_identity_certificate")) | Q(
        encryption_certificate=OuterRef("rotation__new_partner_certificate")
    )
    sent = Probe.objects.filter(used, partnership__partner=partner, purpose=Probe.Purpose.AFTER_CHANGE)
    tests = Step.objects.filter(
        Exists(allowed),
        Exists(encrypting),
        ~Exists(sent),
        ~Q(participant__partner__url=""),
        participant__partner__archived_at=None,
        act=Act.TEST,
        state=StepState.WAITING,
        blocked=False,
        participant__removed_reason="",
        rotation__in=_provable_after_change(),
    )
    count = 0
    for step in tests.select_related("participant__partner", "rotation").order_by("pk"):
        if count == BATCH_SIZE:
            break
        participant = step.participant
        assert participant is not None  # tests are with one partner each
        participant.rotation = step.rotation
        try:
            request_probe(participant, by=Actor.runner(), now=now, purpose=Probe.Purpose.AFTER_CHANGE)
        except ActionRefused:
            continue
        count += 1
    return count


def _provable_after_change() -> list[int]:
    """Return the rotations after their change whose new certificate a test message of ours can prove, by primary key.

    Ours has its private key here then, since it signs the message.
    """
    with_key = Q(identity=None) | Q(new_identity_certificate__private_key__isnull=False)
    found = Rotation.objects.filter(with_key, state__in=AFTER_CHANGE).only("identity", "roles")
    return [rotation.pk for rotation in found if proving_role(rotation) in rotation.roles]


def request_regular(*, now: datetime) -> int:
    """Queue the regular test messages that are due, with the certificates in use; return how many.

    One waits while another of its connection is sent, and while a change with the partner is being made, since a
    message of its minute shows nothing. Where none can be sent, the next is tried after the interval.
    """
    busy = Probe.objects.filter(partnership=OuterRef("pk"), state__in=BUSY)
    changing = Participant.objects.filter(
        Q(rotation__state=RotationState.UNDER_WAY)
        | Q(rotation__state=RotationState.SCHEDULED, rotation__window_start__lte=now, rotation__window_end__gte=now)
        | Q(rotation__state=RotationState.SCHEDULED, window_start__lte=now, window_end__gte=now),
        partner=OuterRef("partner"),
        removed_reason="",
    )
    due = Partnership.objects.active().filter(~Exists(busy), ~Exists(changing), next_probe_at__lte=now)
    count = 0
    for one in due.select_related("identity", "partner").order_by("next_probe_at", "pk")[:BATCH_SIZE]:
        following = now + timedelta(days=one.probe_interval_days)
        mine = Partnership.objects.filter(pk=one.pk, next_probe_at=one.next_probe_at)
        if not mine.update(next_probe_at=following):
            continue  # another worker has claimed it
        signing = signing_choices.signing_certificate_at(one, now)
        encryption = requests.encryption_certificate(one)
        if signing is None or encryption is None:
            log.warning("No regular test message over %s: it has no certificates in use on both sides.", one)
            continue
        is_async = requests.asked_async_mdn(one)
        spec = requests.ProbeSpec(signing, encryption, Probe.Purpose.REGULAR, asks_async_mdn=is_async)
        try:
            requests.request_probe(one, spec, by=Actor.runner(), now=now)
        except ProbeRefused as error:
            log.warning("No regular test message over %s: %s", one, error)
            continue
        count += 1
    return count
