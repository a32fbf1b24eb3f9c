"""Whether a step may be carried out now, and if not, why: the one answer, asked by the runner and by pages.

``obstacle`` answers for the application, ``obstacle_by_hand`` for a person who records a step as done, and
``startable_steps`` is the part of it that a query can decide. A reason is one or two sentences; no reason is "".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import Exists, OuterRef, Q

from as2certs.time_format import format_moment
from identities.connectors.base import ConnectorResult
from identities.models import Identity
from identities.role_assignments import RoleAssignments
from identities.stations import WRITER_ROLES, AbstractCertificate
from partners.models import Partner, SigningChoice
from rotations.execution import stored_plan
from rotations.models import AtEnd, Freeze, Participant, Rotation, Step, StepQuerySet, rehearsal
from rotations.models.readiness import Readiness, first_own_steps, list_not_ready
from rotations.models.rotation import HAS_OBJECTION
from rotations.planning.change import PREPARATION_ACTS, Act, Role
from rotations.planning.freeze_calendar import frozen_until
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState

#: States of a rotation in which its steps may be carried out.
ACTIVE_STATES = (
    RotationState.EXCHANGING,
    RotationState.SCHEDULED,
    RotationState.UNDER_WAY,
    RotationState.APPLIED,
    RotationState.ROLLING_BACK,
)
#: States of a rotation in which a cut-over for everybody may be made.
CUT_OVER_STATES = (RotationState.SCHEDULED, RotationState.UNDER_WAY)
#: Acts that wait until the rotation is scheduled: messages are not held for a change that is not made then.
WINDOW_ACTS = (Act.HOLD, Act.CUT_OVER)
#: Acts that are not begun while the approval is withdrawn.
ACTS_NEEDING_APPROVAL = (Act.STAGE, *WINDOW_ACTS, Act.RETIRE)


class RotationFacts:
    """What the preconditions of some rotations' steps depend on; each kind is read by one query for all of them."""

    def __init__(self, rotations: Sequence[Rotation]) -> None:
        self.rotations = rotations
        self._rehearsal_obstacles: dict[int, str] = {}
        self._prepared: dict[int, bool] = {}
        self._preparation_obstacles: dict[int, str] = {}

    def objections(self, rotation: Rotation) -> Collection[int]:
        """Return the participants (primary keys) about whose objections a person has to decide before the change."""
        return () if rotation.is_emergency else self._objections.get(rotation.pk, ())

    def certificates_by_role(self, rotation: Rotation) -> Mapping[str, Collection[Any]]:
        """Return the certificates in use in each role of a rotation's holder."""
        return self.role_assignments(rotation).serving(rotation.holder)

    def role_assignments(self, rotation: Rotation) -> RoleAssignments:
        """Return the role assignments of a rotation's holder, and of the other holders of its kind."""
        return self._role_assignments[type(rotation.holder)]

    def signing_choices(self, rotation: Rotation) -> dict[int, int]:
        """Return the open signing choices for single partners: choice and certificate, by primary keys."""
        return self._signing_choices.get(rotation.identity_id or 0, {})

    def steps(self, rotation: Rotation) -> list[Step]:
        """Return all steps of a rotation without the columns that are only displayed."""
        return self._steps[rotation.pk]

    def pending_moves(self, rotation: Rotation, *, beside: Step) -> set[tuple[str, str]]:
        """Return roles and moves that other open steps will still make on our side for everybody."""
        return {
            (effect["role"], effect["move"])
            for step in self.steps(rotation)
            if step.pk != beside.pk and step.state not in SETTLED
            for effect in self._effects.get(step.pk, ())
            if effect["at"].startswith("us:")
        }

    def rehearsal_obstacle(self, rotation: Rotation) -> str:
        """Return what the rehearsal of a rotation lacks; "" where it lacks nothing or none is required."""
        if rotation.pk not in self._rehearsal_obstacles:
            self._rehearsal_obstacles[rotation.pk] = rehearsal.rehearsal_obstacle(rotation)
        return self._rehearsal_obstacles[rotation.pk]

    def is_prepared(self, rotation: Rotation) -> bool:
        """Return whether everything that comes before the window of a rotation is settled, and nobody objects."""
        if rotation.pk not in self._prepared:
            open_steps = rotation.steps.filter(act__in=PREPARATION_ACTS).exclude(state__in=SETTLED)
            self._prepared[rotation.pk] = not self.objections(rotation) and not open_steps.exists()
        return self._prepared[rotation.pk]

    def preparation_obstacle(self, rotation: Rotation) -> str:
        """Return what has to come before the window of a rotation that is not prepared: partners, or a step of ours."""
        if rotation.pk not in self._preparation_obstacles:
            self._preparation_obstacles[rotation.pk] = _preparation_obstacle(rotation)
        return self._preparation_obstacles[rotation.pk]

    @cached_property
    def _objections(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = defaultdict(set)
        rows = Participant.objects.filter(HAS_OBJECTION, rotation__in=[rotation.pk for rotation in self.rotations])
        for rotation, participant in rows.order_by().values_list("rotation", "pk"):
            found[rotation].add(participant)
        return found

    @cached_property
    def _role_assignments(self) -> dict[type[Identity] | type[Partner], RoleAssignments]:
        holders: dict[Any, dict[int, Any]] = defaultdict(dict)
        for rotation in self.rotations:
            holders[type(rotation.holder)][rotation.holder.pk] = rotation.holder
        return {kind: RoleAssignments(list(some.values())) for kind, some in holders.items()}

    @cached_property
    def _signing_choices(self) -> dict[int, dict[int, int]]:
        found: dict[int, dict[int, int]] = defaultdict(dict)
        identities = {rotation.identity_id for rotation in self.rotations if rotation.identity_id}
        if identities:
            rows = SigningChoice.objects.open().filter(partnership__identity__in=identities).order_by("pk")
            for pk, certificate, identity in rows.values_list("pk", "certificate", "partnership__identity"):
                found[identity][pk] = certificate
        return found

    @cached_property
    def _steps(self) -> dict[int, list[Step]]:
        # With many partners these are thousands, read again whenever one is settled.
        displayed = ("roles", "evidence", "effects", "checkpoint", "title", "why", "note", "error")
        found: dict[int, list[Step]] = {rotation.pk: [] for rotation in self.rotations}
        for step in Step.objects.filter(rotation__in=list(found)).defer(*displayed):
            found[step.rotation_id].append(step)
        return found

    @cached_property
    def _effects(self) -> dict[int, list[dict[str, str]]]:
        ours = Step.objects.filter(rotation__in=[rotation.pk for rotation in self.rotations])
        rows = ours.filter(participant=None).exclude(state__in=SETTLED).order_by()
        return dict(rows.values_list("pk", "effects"))


def obstacle(step: Step, facts: RotationFacts, *, now: datetime) -> str:
    """Return why the application must not carry out a due step now; "" where nothing is against it.

    1. Its approval is withdrawn; what has begun is ended all the same.
    2. The window of a cut-over is over.
    3. The window still waits for a partner, for a decision about its objection, or for the rehearsal.
    4. Another AS2 system carries the traffic than when the plan was made.
    5. The successor is missing, or not valid at this moment.
    6. A certificate that the rotation does not know is in use in a role that it changes.
    """
    rotation = step.rotation
    needs_approval = step.act in ACTS_NEEDING_APPROVAL and step.state != StepState.RUNNING
    if needs_approval and (reason := approval_obstacle(rotation)):
        return reason
    if step.latest_at is not None and step.is_window_over(now):
        at = format_moment(step.latest_at, "UTC", "iso_seconds" if step.latest_at.second else "iso")
        return (
            f"The window ended at {at} UTC before the change could be made, "
            "so it was not made. Agree a new window with the partners and postpone to it, or cancel."
        )
    if step.act in WINDOW_ACTS and (reason := _window_obstacle(step, facts)):
        return reason
    if step.act not in (Act.STAGE, Act.CUT_OVER):
        return ""
    return _system_obstacle(step) or _successor_obstacle(step, now=now) or _role_obstacle(step, facts)


def is_accomplished(result: ConnectorResult, *, shows_use: bool) -> bool:
    """Return whether a step is done by the result of its AS2 system, so that the steps after it may follow.

    The system has to use the change. One that can't show that (``shows_use``) only has to have stored it.
    """
    return result.outcome.good and (result.in_use or not shows_use)


def stored_obstacle(steps: Iterable[Step]) -> str:
    """Return that one of the steps is a cut-over which is stored and not in use yet; "" for none.

    Its AS2 system may use the new certificate at any moment, so the change can be neither moved nor cancelled.
    """
    for step in steps:
        if step.act == Act.CUT_OVER and step.is_stored_unused:
            return (
                f"The files for “{step.title}” are stored in {step.system}, which may use them at any moment. Find out "
                "whether it does, record the step as done, and roll back if the old certificate is to be used."
            )
    return ""


def obstacle_by_hand(step: Step, facts: RotationFacts, *, now: datetime) -> str:
    """Return why a person must not record a step as done at ``now`` (UTC); "" where nothing is against it.

    1. The partner has gone back to the old certificate alone, and has no other window yet.
    2. The application carries the step out itself.
    3. Other steps come first; held messages may be released at any time.
    4. The approval is withdrawn.
    5. The window still waits for a partner, for a decision about its objection, or for the rehearsal.
    6. Its time, of which the partners were told, has not come.
    """
    rotation = step.rotation
    if step.act in WINDOW_ACTS and step.participant and step.participant.taken_back_at:
        return f"{step.participant.partner} has gone back to the old certificate: agree another moment with it first."
    if step.automatic and step.state != StepState.FAILED and step.act != Act.RETIRE:
        return f"“{step.title}” is carried out by the application at its moment."
    if step.blocked and step not in stored_plan.open_releases(rotation):
        return f"“{step.title}” comes later: {_steps_before(step)}."
    if step.act in ACTS_NEEDING_APPROVAL and (reason := approval_obstacle(rotation)):
        return reason
    if step.act in WINDOW_ACTS and (reason := _window_obstacle(step, facts)):
        return f"“{step.title}” comes later. {reason}"
    return early_obstacle(step, now=now)


def early_obstacle(step: Step, *, now: datetime) -> str:
    """Return from when on a step at the window can be recorded, and what to do if it was done before; "" once it can.

    A cut-over that is recorded days before its window would tell the partners that we have changed.
    """
    if step.act not in WINDOW_ACTS or step.earliest_at is None or step.earliest_at <= now:
        return ""
    opens = format_moment(step.earliest_at, step.rotation.window_zone or "UTC", "offset")
    forward = "postpone the rotation to a window that begins now"
    if step.participant is not None:
        forward = f"give {step.participant.partner} a window of its own that begins now"
    return (
        f"“{step.title}” can be recorded from {opens} on: until then, the partners use the old certificate. If it was "
        f"done already, bring the window forward: {forward}, and record it then. If the old key may be known to "
        "others, use “Emergency: change at once”."
    )


def startable_steps(now: datetime) -> StepQuerySet:
    """Return the due steps that the application may carry out, or has to put before a person, at ``now`` (UTC).

    Left out is what waits: new steps while the approval is withdrawn, but those that roll back or release messages;
    retiring a certificate that a partner still uses; and cut-overs during their window while the rotation is not ready,
    for one partner alone while its rehearsal is missing or nobody has decided about its objection; and in a freeze
    those that are made when their partner is ready. What is stored already is asked about all the same.
    Whatever else ``obstacle`` finds makes the step fail.
    """
    unapproved = Q(
        state=StepState.WAITING,
        rotation__withdrawn_at__isnull=False,
        rotation__state__in=AWAITING_WINDOW,
        stored_at=None,
    ) & ~Q(act__in=(stored_plan.ROLL_BACK, Act.RELEASE))
    in_window = Q(act=Act.CUT_OVER, state=StepState.WAITING, latest_at__gt=now, stored_at=None)
    not_ready = in_window & ~Q(rotation__state__in=CUT_OVER_STATES)
    for_one = Q(participant__isnull=False)
    objecting = Exists(Participant.objects.filter(HAS_OBJECTION, pk=OuterRef("participant")))
    due = Step.objects.due(now).filter(rotation__state__in=ACTIVE_STATES).exclude(unapproved)
    due = due.exclude(in_window & for_one & Q(rotation__emergency_reason="") & Q(objecting))
    if freezes := _current_freezes(now):
        due = due.exclude(in_window & _is_frozen(freezes))
    early = due.filter(not_ready & for_one, rotation__state=RotationState.EXCHANGING)
    due = due.exclude(not_ready & ~for_one)
    # A partner that was seen with the old certificate after the change is left to a person.
    straggling = Participant.objects.filter(
        rotation=OuterRef("rotation"), removed_reason="", waived_reason="", straggling_at__isnull=False
    )
    due = due.exclude(Q(Exists(straggling)), act=Act.RETIRE, rotation__emergency_reason="")
    unrehearsed = _unrehearsed_rotations(early)
    return due.exclude(not_ready & Q(rotation__in=unrehearsed)) if unrehearsed else due


def _current_freezes(now: datetime) -> list[Freeze]:
    """Return the freezes that cover a moment."""
    return [freeze for freeze in Freeze.objects.all() if frozen_until(now, [freeze.period])]


def _is_frozen(freezes: Iterable[Freeze]) -> Q:
    """Match cut-overs that are made when their partner is ready, where one of these freezes forbids it.

    A moment that was agreed despite a freeze stands. Here nobody chose one: the reason to override is for the window.
    """
    when_ready = Q(
        participant__isnull=False,
        participant__window_start=None,
        rotation__at_end=AtEnd.PHASED,
        rotation__emergency_reason="",
    )
    whose = Q(pk__in=[])
    for freeze in freezes:
        if freeze.identity_id:
            whose |= Q(rotation__identity=freeze.identity_id)
        elif freeze.partner_id:
            whose |= Q(participant__partner=freeze.partner_id)
        else:
            return when_ready
    return when_ready & whose


def _unrehearsed_rotations(steps: StepQuerySet) -> list[int]:
    """Return the primary keys of these steps' rotations that wait for a rehearsal; mostly one query for none."""
    keys = set(steps.order_by().values_list("rotation", flat=True))
    if not keys:
        return []
    rotations = Rotation.objects.with_rehearsal_rule().select_related("identity", "partner").filter(pk__in=keys)
    return [rotation.pk for rotation in rotations if rehearsal.rehearsal_obstacle(rotation)]


def approval_obstacle(rotation: Rotation) -> str:
    """Return that the approval is withdrawn, and why; "" where it stands."""
    if not rotation.is_withdrawn:
        return ""
    return f"The approval is withdrawn, since {rotation.withdrawn_because}: somebody has to approve it again first."


def sole_rehearsal_obstacle(rotation: Rotation, facts: RotationFacts) -> str:
    """Return what the rehearsal lacks where a rotation waits for nothing else before its window; else ""."""
    return facts.rehearsal_obstacle(rotation) if facts.is_prepared(rotation) else ""


def unknown_certificate(rotation: Rotation, roles: Iterable[str], facts: RotationFacts) -> str:
    """Return which certificate that a rotation does not know is the only one in one of the roles; "" for none."""
    in_use = facts.certificates_by_role(rotation)
    for role in roles:
        if found := _unknown_signing_choice(rotation, role, facts) or _unknown_writer(rotation, role, in_use[role]):
            return found
    return ""


def _window_obstacle(step: Step, facts: RotationFacts) -> str:
    """Return what a step at the window waits for: its rehearsal, and unless it is for one partner alone, the others."""
    rotation = step.rotation
    if step.participant is not None and step.participant_id in facts.objections(rotation):
        return _explain_undecided([(step.participant.partner.name, _objection(step.participant))])
    if rotation.state in CUT_OVER_STATES:
        return ""
    if step.participant_id is not None:
        return facts.rehearsal_obstacle(rotation)
    return sole_rehearsal_obstacle(rotation, facts) or facts.preparation_obstacle(rotation)


def _objection(participant: Participant) -> Readiness:
    if participant.declined_at is not None:
        return Readiness.DECLINED
    return Readiness.OTHER_TIME if participant.proposed_at is not None else Readiness.NOT_ACCEPTED


def _explain_undecided(objections: Sequence[tuple[str, Readiness]]) -> str:
    """Return that a person has to decide about partners (names) that object, or did not accept a test message."""
    names = "; ".join(f"{name} {readiness}" for name, readiness in objections)
    whom = "it" if len(objections) == 1 else "them"
    if all(readiness is Readiness.NOT_ACCEPTED for _, readiness in objections):
        return f"{names}. Ask {whom} to install it and send another test message, or go on without {whom}."
    return f"{names}. Decide about {whom} first: agree on a time, stay with the window, or go on without {whom}."


def _preparation_obstacle(rotation: Rotation) -> str:
    found = list_not_ready(rotation)
    if found.undecided:
        return _explain_undecided(found.undecided)
    if not found.is_answer_missing and (own := first_own_steps([rotation.pk]).get(rotation.pk)):
        return f"Our own preparations are not done: first “{own.title}”."
    return "Not every participant has confirmed or was waived: record their answers, or go on without them."


def _steps_before(step: Step) -> str:
    open_steps = step.rotation.steps.preceding(step.after).exclude(state__in=SETTLED)
    return "first " + ", then ".join(f"“{title}”" for title in open_steps.values_list("title", flat=True)[:3])


def _system_obstacle(step: Step) -> str:
    systems = step.rotation.affected_systems()
    if step.system in systems:
        return ""
    current = ", ".join(str(system or "no AS2 system") for system in systems)
    return (
        f"This was planned for {step.system or 'no AS2 system'}, but the traffic is carried by {current} now. "
        "Postpone the rotation, to plan it anew for what is there, or cancel it."
    )


def _successor_obstacle(step: Step, *, now: datetime) -> str:
    new = step.rotation.new
    if new is None:
        return "There is no successor. Take it in, then try again."
    # Reading with it may be prepared before it is valid; writing with it may not begin.
    if now > new.not_after or (now < new.not_before and step.act == Act.CUT_OVER):
        return (
            f"The successor {new.short_name} is valid from {format_moment(new.not_before, 'UTC', 'iso')} to "
            f"{format_moment(new.not_after, 'UTC', 'iso')} UTC, not now. Cancel, and rotate to a certificate "
            "that is valid."
        )
    return ""


def _role_obstacle(step: Step, facts: RotationFacts) -> str:
    rotation, roles = step.rotation, step.own_moves
    if unknown := unknown_certificate(rotation, roles, facts):
        return unknown
    in_use = facts.certificates_by_role(rotation)
    for role in roles:
        if rotation.old is not None and not {rotation.old, rotation.new} & set(in_use[role]):
            return _replaced_meanwhile(rotation, role, in_use[role])
    return ""


def _unknown_signing_choice(rotation: Rotation, role: str, facts: RotationFacts) -> str:
    if role != Role.SIGN:
        return ""
    own = {rotation.old_identity_certificate_id, rotation.new_identity_certificate_id}
    for key, certificate in facts.signing_choices(rotation).items():
        if certificate not in own:
            choice = SigningChoice.objects.select_related("certificate", "partnership__partner").get(pk=key)
            return (
                f"{choice.certificate.short_name} signs for {choice.partnership.partner} alone, and this plan does "
                "not know it. Cancel this rotation, and set up one that starts from what is in use."
            )
    return ""


def _unknown_writer(rotation: Rotation, role: str, in_use: Collection[AbstractCertificate]) -> str:
    """Return which other certificate is in use in a role that has room for one."""
    if not in_use or role not in WRITER_ROLES or {rotation.old, rotation.new} & set(in_use):
        return ""
    return _replaced_meanwhile(rotation, role, in_use)


def _replaced_meanwhile(rotation: Rotation, role: str, in_use: Collection[AbstractCertificate]) -> str:
    planned = rotation.old.short_name if rotation.old else "nothing"
    found = ", ".join(certificate.short_name for certificate in in_use) or "nothing"
    return (
        f"The plan replaces {planned} in the role {role}, but {found} serves it now. "
        "Cancel this rotation, and set up one that starts from what is in use."
    )
