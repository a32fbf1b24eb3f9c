"""Turn a rotation into a change that can be planned, and its plan into stored steps; replan what has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from identities.capabilities import Support
from identities.connectors import lead_of, may_sign_per_partner
from identities.models import AS2System
from partners.models import Partner
from rotations.errors import NoOwnWindow, PlanError
from rotations.models import Participant, Rotation, Step, every_key
from rotations.planning import plan
from rotations.planning.change import (
    Act,
    Capacity,
    CertificateChange,
    Party,
    PlannedStep,
    Role,
    System,
)
from rotations.planning.states import SETTLED, StepState

#: Key of "our side" in a plan where no AS2 system is connected: only the inventory changes then.
NO_SYSTEM = "none"

CAPACITIES = {
    Support.YES: Capacity.SEVERAL,
    Support.NO: Capacity.ONE,
    Support.UNKNOWN: Capacity.UNKNOWN,
}

#: Act of the steps that roll a rotation back; they are not part of a plan.
ROLL_BACK = "roll_back"

#: Prefix of the keys of steps that were done before their partner went back alone; the repeated steps have the plan's.
PAST_PREFIX = "past"

#: From so many steps of one act on, those that wait for all of them name the act and not each step: with 2,000
#: partners, each of 2,000 steps would store 4,000 keys.
MIN_NAMED_TOGETHER = 10


def build_change(
    rotation: Rotation, *, now: datetime, awaited: bool = False, parties: Sequence[Party] | None = None
) -> CertificateChange:
    """Return a rotation as the input of the planner, with ``parties`` in place of its active participants.

    Raises PlanError when the window is missing, or the successor, unless it may be ``awaited``.
    """
    if rotation.window_start is None or rotation.window_end is None:
        raise PlanError("The plan needs a window: choose when the change is to happen.")
    if rotation.new is None and not awaited:
        raise PlanError("The plan needs the successor: generate, upload or choose the new certificate.")
    if parties is None:
        parties = [party_for_participant(p, rotation.side) for p in active_participants(rotation)]
    return CertificateChange(
        side=rotation.side,
        roles=frozenset(Role(role) for role in rotation.roles),
        systems=tuple(planned_system(system, rotation.side) for system in rotation.affected_systems()),
        parties=tuple(parties),
        starts=rotation.window_start,
        ends=rotation.window_end,
        now=now,
        grace=timedelta(days=rotation.grace_days),
        emergency=rotation.is_emergency,
        fuzzy=rotation.is_fuzzy,
        phased=rotation.is_phased,
        old_name=rotation.old.short_name if rotation.old else "nothing",
        new_name=rotation.new.short_name if rotation.new else "the new certificate",
        holder_name=rotation.holder.name,
    )


def active_participants(rotation: Rotation) -> list[Participant]:
    """Return the participants that were not removed."""
    return list(rotation.participants.filter(removed_reason="").select_related("partner"))


def party_for_partner(partner: Partner, side: str, answers: Mapping[int, Support] | None = None) -> Party:
    """Return a partner as the planner takes it, in a change of a side ("own" or "partner").

    ``answers`` maps partners (primary keys) to whether their systems can keep both certificates, in place of what is
    stored.
    """
    answer = (answers or {}).get(partner.pk) or partner.keeps_both(side)
    return Party(key=str(partner.uid), name=partner.name, holds=CAPACITIES[answer])


def party_for_participant(participant: Participant, side: str, answers: Mapping[int, Support] | None = None) -> Party:
    """Return a participant as the planner takes it, with its own window where it has one."""
    party = party_for_partner(participant.partner, side, answers)
    return replace(party, starts=participant.window_start, ends=participant.window_end)


def planned_system(system: AS2System | None, side: str) -> System:
    """Return an AS2 system of ours as the planner takes it, in a change of a side ("own" or "partner")."""
    if system is None:
        return System(key=NO_SYSTEM, name="our AS2 system", holds=Capacity.UNKNOWN)
    return System(
        key=str(system.uid),
        name=system.name,
        holds=CAPACITIES[system.keeps_both(side)],
        signs_per_partner=system.signs_per_partner and may_sign_per_partner(system.connector),
        automatic=system.connector != "manual",
        dated=system.switches_by_date,
        drain=timedelta(hours=system.drain_hours),
        lead=lead_of(system).staged,
        unstaged_lead=lead_of(system).unstaged,
    )


def preview_steps(
    rotation: Rotation, *, now: datetime, awaited: bool = False, answers: Mapping[int, Support] | None = None
) -> list[Step]:
    """Return the steps that approving the rotation now would store, unsaved.

    ``answers`` as in ``party_for_partner``. Raises PlanError when the change can't be planned; with ``awaited``, the
    successor may be missing.
    """
    participants = {str(p.partner.uid): p for p in active_participants(rotation)}
    parties = [party_for_participant(p, rotation.side, answers) for p in participants.values()]
    steps = plan.plan(build_change(rotation, now=now, awaited=awaited, parties=parties))
    systems = {str(s.uid): s for s in rotation.affected_systems() if s is not None}
    predecessors = _Predecessors(steps)
    return [
        Step(
            rotation=rotation,
            position=position,
            key=step.key,
            who=step.who,
            act=step.act,
            roles=list(step.roles),
            system=systems.get(step.system or ""),
            participant=participants.get(step.partner or ""),
            title=step.title,
            why=step.why,
            evidence=list(step.evidence),
            effects=[{"at": e.at, "role": str(e.role), "move": str(e.move)} for e in step.effects],
            after=predecessors.stored(step.after),
            simultaneous=step.simultaneous,
            automatic=step.automatic,
            earliest_at=step.earliest,
            latest_at=step.latest,
            due_at=_due_at(step, participants.get(step.partner or "")),
            blocked=bool(step.after),
        )
        for position, step in enumerate(steps, start=1)
    ]


class _Predecessors:
    """Shortens the predecessors of planned steps for storage: all steps of an act become one entry, "install:*"."""

    def __init__(self, steps: Iterable[PlannedStep]) -> None:
        self._sizes = Counter(every_key(step.key) for step in steps)
        self._known: dict[int, list[str]] = {}

    def stored(self, after: tuple[str, ...]) -> list[str]:
        """Return the predecessors as they are stored; ``after`` belongs to one of the steps."""
        if len(after) < MIN_NAMED_TOGETHER:
            return list(after)
        if id(after) not in self._known:  # thousands of steps share one tuple, which lives as long as they do
            counts = Counter(map(every_key, after))
            whole = {name for name, n in counts.items() if n >= MIN_NAMED_TOGETHER and n == self._sizes[name]}
            names = (every_key(key) for key in after)
            short = (name if name in whole else key for key, name in zip(after, names, strict=True))
            self._known[id(after)] = list(dict.fromkeys(short))
        return list(self._known[id(after)])


def _due_at(step: PlannedStep, participant: Participant | None) -> datetime | None:
    """Return when a step is due; our cut-over for a waived partner that would change when it is ready, at the end."""
    waived = participant is not None and bool(participant.waived_reason) and participant.changes_when_ready
    if not waived or step.act != Act.CUT_OVER or step.due is None or step.latest is None:
        return step.due
    return max(step.due, step.latest - plan.DECISION_LEAD)


def defer_to_end(participant: Participant) -> None:
    """Let our cut-over for a waived partner be due just before the end, if it would be made when the partner is ready.

    Nobody knows that it is ready: at once, its messages would fail although there is time left to install.
    """
    if not participant.changes_when_ready:
        return
    for step in participant.steps.filter(act=Act.CUT_OVER, state=StepState.WAITING, due_at__isnull=False):
        assert step.due_at is not None  # the query asks for it
        assert step.latest_at is not None  # cut-overs for one partner have a window
        step.due_at = max(step.due_at, step.latest_at - plan.DECISION_LEAD)
        step.save(update_fields=["due_at"])


def resume_when_ready(participant: Participant, *, now: datetime) -> None:
    """Let our cut-over for a partner that was waived, and has answered since, be due as soon as it is ready."""
    if not participant.changes_when_ready:
        return
    for step in participant.steps.filter(act=Act.CUT_OVER, state=StepState.WAITING, due_at__isnull=False):
        step.due_at = max(step.earliest_at or now, now)
        step.save(update_fields=["due_at"])


def store_steps(rotation: Rotation, *, now: datetime) -> None:
    """Store the steps of the plan."""
    Step.objects.bulk_create(preview_steps(rotation, now=now))


def replan(rotation: Rotation, *, now: datetime) -> None:
    """Replan a rotation for a moved window; settled steps stay settled.

    Only those that belong to the old window are repeated: partners agree to the new one, and messages are held and
    released around a cut-over that is not made yet.
    """
    settled = {s.key: s for s in rotation.steps.filter(state__in=("done", "skipped")) if not _lapsed_with_window(s)}
    rotation.steps.exclude(pk__in=[s.pk for s in settled.values()]).delete()
    fresh = preview_steps(rotation, now=now)
    keys = {step.key for step in fresh}
    _renumber((s for key, s in settled.items() if key in keys), fresh)
    Step.objects.bulk_create(step for step in fresh if step.key not in settled)


def replan_participant(participant: Participant, *, now: datetime) -> None:
    """Replan the steps of one participant whose own window was moved, and the times of the shared steps after it.

    Settled steps stay settled, except those that belong to the old window. Raises NoOwnWindow where the plan no longer
    has a cut-over for this participant alone.
    """
    rotation = participant.rotation
    fresh = {step.key: step for step in preview_steps(rotation, now=now)}
    own = [step for step in fresh.values() if step.participant_id == participant.pk]
    kept = rotation.steps.filter(participant=participant).exclude(act=ROLL_BACK)
    settled = {step.key for step in kept.filter(state__in=("done", "skipped")) if not _lapsed_with_window(step)}
    if not any(step.act == Act.CUT_OVER and rotation.steps.filter(key=step.key).exists() for step in own):
        raise NoOwnWindow
    kept.exclude(key__in=settled).delete()
    Step.objects.bulk_create(step for step in own if step.key not in settled)
    shared = rotation.steps.filter(participant=None, act__in=(Act.CUT_OVER, Act.RETIRE))
    # The times of settled steps change too: the partner's page shows them.
    for step in (*shared.exclude(state__in=("done", "skipped")), *kept.filter(key__in=settled)):
        if planned := fresh.get(step.key):
            for name in _TIME_FIELDS:
                setattr(step, name, getattr(planned, name))
            step.save(update_fields=_TIME_FIELDS)
    _renumber(rotation.steps.filter(key__in=fresh), list(fresh.values()))


#: Fields of a step that say what is to be done.
_CONTENT_FIELDS = (
    *("position", "who", "roles", "title", "why", "evidence"),
    *("effects", "after", "simultaneous", "automatic"),
)
_TIME_FIELDS = ("earliest_at", "latest_at", "due_at")
#: Fields of an open step that a new plan replaces.
_PLANNED_FIELDS = (*_CONTENT_FIELDS, *_TIME_FIELDS, "blocked")


def replace_plan(
    rotation: Rotation, fresh: Sequence[Step], *, changed: Collection[int], begun: Collection[int]
) -> None:
    """Replace the stored plan by another one for the same window; settled steps stay settled.

    Participants whose own steps differ (``changed``, primary keys) keep only the steps that the new plan has too, and
    are asked again whether they agree to the window. Those with whom the change has ``begun`` keep all their steps.
    """
    planned = {step.key: step for step in fresh if step.participant_id not in begun}
    stored = rotation.steps.exclude(act=ROLL_BACK).exclude(key__startswith=f"{PAST_PREFIX}:")
    for step in list(stored.exclude(participant__in=begun)):
        settled = step.state in SETTLED
        asked_again = step.participant_id in changed and (step.act == Act.AGREE or step.key not in planned)
        if asked_again or (step.key not in planned and not settled):
            step.delete()
    kept = {step.key: step for step in rotation.steps.filter(key__in=planned)}
    to_come = [step for step in kept.values() if step.state not in SETTLED]
    for step in to_come:
        for name in _PLANNED_FIELDS:
            setattr(step, name, getattr(planned[step.key], name))
    Step.objects.bulk_update(to_come, _PLANNED_FIELDS, batch_size=500)
    Step.objects.bulk_create(step for key, step in planned.items() if key not in kept)
    _renumber(rotation.steps.filter(key__in=[step.key for step in fresh]), fresh)


def copy_step(step: Step) -> Step:
    """Return an unsaved copy of a step that is to be repeated at a moment that is not known yet."""
    fields = (*_CONTENT_FIELDS, "key", "act", "system", "participant")
    copied = {name: getattr(step, name) for name in fields}
    return Step(rotation=step.rotation, **copied, blocked=True)


def signs_per_partner(rotation: Rotation) -> bool:
    """Return whether our signature changes for each partner at a moment of its own in this rotation."""
    return rotation.steps.for_one_partner().exists()


def last_window_end(rotation: Rotation) -> datetime | None:
    """Return when the last window of a rotation ends (UTC), its own or those of its participants."""
    if not signs_per_partner(rotation):
        return rotation.window_end
    own = [participant.ends for participant in active_participants(rotation)]
    return max((end for end in own if end is not None), default=rotation.window_end)


def drain_time(systems: Iterable[AS2System | None]) -> timedelta:
    """Return how long after the window late messages may still arrive at any of these AS2 systems."""
    return timedelta(hours=max((system.drain_hours for system in systems if system), default=0))


def switched_participants(rotation: Rotation) -> set[int]:
    """Return the participants (primary keys) for which alone our signature has changed, and was not rolled back."""
    done = rotation.steps.for_one_partner().filter(state="done")
    return set(done.exclude(key__startswith=f"{PAST_PREFIX}:").values_list("participant", flat=True))


def _lapsed_with_window(step: Step) -> bool:
    """Return whether a settled step belongs to the old window and has to be repeated."""
    if step.key.startswith(f"{PAST_PREFIX}:"):
        return False
    made = step.rotation.steps.filter(act=Act.CUT_OVER, participant=step.participant, state="done")
    made = made.exclude(key__startswith=f"{PAST_PREFIX}:")
    if step.act in (Act.HOLD, Act.RELEASE):
        return step.state == "done" and not made.filter(system=step.system).exists()
    return step.act == Act.AGREE and not (step.participant and made.exists())


def open_releases(rotation: Rotation) -> list[Step]:
    """Return the open steps that release messages which are held for this rotation now."""
    return filter_open_releases(list(rotation.steps.select_related("system")))


def filter_open_releases(steps: Sequence[Step]) -> list[Step]:
    """Return those of a rotation's steps that release messages which are held; they may be done at any time."""
    held = {_hold_key(step) for step in steps if step.act == Act.HOLD and step.state == "done"}
    releases = [step for step in steps if step.act == Act.RELEASE and _hold_key(step) in held]
    return [step for step in releases if step.state not in ("done", "skipped")]


def _hold_key(step: Step) -> tuple[int | None, int | None, str]:
    """Return which messages a step holds or releases: of a system, for one participant, and in which repetition."""
    which = step.key.split(":")[1] if step.key.startswith(f"{PAST_PREFIX}:") else ""
    return step.system_id, step.participant_id, which


def _renumber(kept: Iterable[Step], fresh: Sequence[Step]) -> None:
    position = {step.key: step.position for step in fresh}
    for step in kept:
        if step.position != position[step.key]:
            step.position = position[step.key]
            step.save(update_fields=["position"])
