"""Turn a rotation into a change that can be planned, and the plan into steps that can be carried out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Q

from identities.connectors import may_sign_per_partner
from identities.models import AS2System
from partners.models import Partner
from rotations.errors import NoOwnWindow, PlanError
from rotations.models import Participant, Rotation, Step
from rotations.planning import plan
from rotations.planning.change import PREPARATION_ACTS, Act, Capacity, CertificateChange, Party, Role, System
from rotations.planning.states import SETTLED, RotationState

#: Key of "our side" in a plan where no AS2 system is connected: the change is then one of the inventory alone.
NO_SYSTEM = "none"

#: The act of the steps that lead back; they are not planned beforehand.
ROLL_BACK = "roll_back"

#: How the keys of steps begin that were done before their partner went back alone; those to come have the plan's keys.
PAST_PREFIX = "past"


def build_change(
    rotation: Rotation, *, now: datetime, awaited: bool = False, parties: Sequence[Party] | None = None
) -> CertificateChange:
    """Return what a rotation asks for, as the planner wants it; ``parties`` in place of all who take part.

    Raises PlanError when the window is still missing, or the successor, unless it may be ``awaited``.
    """
    if rotation.window_start is None or rotation.window_end is None:
        raise PlanError("The plan needs a window: choose when the change is to happen.")
    if rotation.new is None and not awaited:
        raise PlanError("The plan needs the successor: generate, upload or choose the new certificate.")
    if parties is None:
        parties = [party_for_participant(participant) for participant in active_participants(rotation)]
    return CertificateChange(
        side=rotation.side,
        roles=frozenset(Role(role) for role in rotation.roles),
        systems=tuple(planned_system(system) for system in rotation.affected_systems()),
        parties=tuple(parties),
        starts=rotation.window_start,
        ends=rotation.window_end,
        now=now,
        grace=timedelta(days=rotation.grace_days),
        emergency=rotation.is_emergency,
        fuzzy=rotation.is_fuzzy,
        old_name=rotation.old.short_name if rotation.old else "nothing",
        new_name=rotation.new.short_name if rotation.new else "the new certificate",
        holder_name=rotation.holder.name,
    )


def active_participants(rotation: Rotation, holding: Mapping[int, str] | None = None) -> list[Participant]:
    """Return the participants that were not removed; with ``holding``, as if their systems held that."""
    found = list(rotation.participants.filter(removed_reason="").select_related("partner"))
    for participant in found:
        participant.partner.holds = (holding or {}).get(participant.partner_id, participant.partner.holds)
    return found


def party_for_partner(partner: Partner) -> Party:
    """Return a partner as the planner wants it."""
    return Party(key=str(partner.uid), name=partner.name, holds=Capacity(partner.holds))


def party_for_participant(participant: Participant) -> Party:
    """Return a participant as the planner wants it, with its own moment where it has one."""
    party = party_for_partner(participant.partner)
    return replace(party, starts=participant.window_start, ends=participant.window_end)


def planned_system(system: AS2System | None) -> System:
    """Return an AS2 system of ours as the planner wants it."""
    if system is None:
        return System(key=NO_SYSTEM, name="our AS2 system", holds=Capacity.UNKNOWN)
    several = Capacity.SEVERAL if system.holds_several else Capacity.ONE
    return System(
        key=str(system.uid),
        name=system.name,
        holds=Capacity.UNKNOWN if system.overlap == AS2System.Overlap.UNKNOWN else several,
        signs_per_partner=system.signs_per_partner and may_sign_per_partner(system.connector),
        automatic=system.connector != "manual",
        dated=system.overlap == AS2System.Overlap.DATED,
        drain=timedelta(hours=system.drain_hours),
    )


def preview_steps(
    rotation: Rotation, *, now: datetime, awaited: bool = False, holding: Mapping[int, str] | None = None
) -> list[Step]:
    """Return the steps that approving the rotation now would store, unsaved.

    ``holding`` says what the systems of some partners (primary keys) hold, in place of what is known of them. Raises
    PlanError when it can't be planned; with ``awaited``, the successor may be missing.
    """
    participants = {str(p.partner.uid): p for p in active_participants(rotation, holding)}
    parties = [party_for_participant(participant) for participant in participants.values()]
    steps = plan.plan(build_change(rotation, now=now, awaited=awaited, parties=parties))
    systems = {str(s.uid): s for s in rotation.affected_systems() if s is not None}
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
            after=list(step.after),
            simultaneous=step.simultaneous,
            automatic=step.automatic,
            earliest_at=step.earliest,
            latest_at=step.latest,
            due_at=step.due,
            blocked=bool(step.after),
        )
        for position, step in enumerate(steps, start=1)
    ]


def store_steps(rotation: Rotation, *, now: datetime) -> None:
    """Write the plan down as steps, in place of those of an earlier plan that were not begun."""
    Step.objects.bulk_create(preview_steps(rotation, now=now))


def replan(rotation: Rotation, *, now: datetime) -> None:
    """Plan again for a moved window, and keep what was done before: steps that are done stay done.

    Only what is tied to the window is asked for again: that partners agree to it, and that messages are held and
    released around a cut-over that is not made yet.
    """
    settled = {
        s.key: s for s in rotation.steps.filter(state__in=("done", "skipped")) if not _lapsed_with_window(s)
    }
    rotation.steps.exclude(pk__in=[s.pk for s in settled.values()]).delete()
    fresh = preview_steps(rotation, now=now)
    keys = {step.key for step in fresh}
    _renumber((s for key, s in settled.items() if key in keys), fresh)
    Step.objects.bulk_create(step for step in fresh if step.key not in settled)


def replan_participant(participant: Participant, *, now: datetime) -> None:
    """Plan again for one participant's moved moment: its own steps, and when the default and the end may come.

    What was done stays done, but for what was tied to the old moment. Raises NoOwnWindow where the plan would not have
    a cut-over for it alone any more.
    """
    rotation = participant.rotation
    fresh = {step.key: step for step in preview_steps(rotation, now=now)}
    own = [step for step in fresh.values() if step.participant_id == participant.pk]
    kept = rotation.steps.filter(participant=participant).exclude(act=ROLL_BACK)
    settled = {
        step.key for step in kept.filter(state__in=("done", "skipped")) if not _lapsed_with_window(step)
    }
    if not any(step.act == Act.CUT_OVER and rotation.steps.filter(key=step.key).exists() for step in own):
        raise NoOwnWindow
    kept.exclude(key__in=settled).delete()
    Step.objects.bulk_create(step for step in own if step.key not in settled)
    shared = rotation.steps.filter(participant=None, act__in=(Act.CUT_OVER, Act.RETIRE))
    # What was asked for and is there already is wanted by another moment too: its page tells until when.
    for step in (*shared.exclude(state__in=("done", "skipped")), *kept.filter(key__in=settled)):
        if planned := fresh.get(step.key):
            step.earliest_at, step.latest_at, step.due_at = (
                planned.earliest_at,
                planned.latest_at,
                planned.due_at,
            )
            step.save(update_fields=["earliest_at", "latest_at", "due_at"])
    _renumber(rotation.steps.filter(key__in=fresh), list(fresh.values()))


#: What of a step to come is as the plan says.
_PLANNED_FIELDS = (
    *(
        "position",
        "who",
        "roles",
        "title",
        "why",
        "evidence",
        "effects",
        "after",
        "simultaneous",
        "automatic",
    ),
    *("earliest_at", "latest_at", "due_at", "blocked"),
)


def replace_plan(
    rotation: Rotation, fresh: Sequence[Step], *, anew: Collection[int], begun: Collection[int]
) -> None:
    """Put another plan for the same window in the place of the stored one; what is done stays done.

    Of participants whose own part is another one (``anew``, primary keys), only what the new plan has too stays, and
    they are asked again whether the window suits. Those with whom the change has ``begun`` keep all of their steps.
    """
    planned = {step.key: step for step in fresh if step.participant_id not in begun}
    stored = rotation.steps.exclude(act=ROLL_BACK).exclude(key__startswith=f"{PAST_PREFIX}:")
    for step in list(stored.exclude(participant__in=begun)):
        settled = step.state in SETTLED
        asked_again = step.participant_id in anew and (step.act == Act.AGREE or step.key not in planned)
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
    """Return a step that was done as one that is to be done once more, at a moment that is not known yet (unsaved)."""
    fields = ("position", "key", "who", "act", "roles", "system", "participant", "title", "why", "evidence")
    more = ("effects", "after", "simultaneous", "automatic")
    copied = {name: getattr(step, name) for name in (*fields, *more)}
    return Step(rotation=step.rotation, **copied, blocked=True)


def signs_per_partner(rotation: Rotation) -> bool:
    """Say whether our signing changes partner by partner in this rotation, each at its own moment."""
    return rotation.steps.alone().exists()


def awaits_preparation(participant: Participant) -> bool:
    """Say whether our change waits for something before its window: for this partner alone where we sign per partner.

    Elsewhere for anybody: a rotation that is still exchanging is ready with nobody.
    """
    rotation = participant.rotation
    if not signs_per_partner(rotation):
        return rotation.state == RotationState.EXCHANGING
    before = rotation.steps.filter(act__in=PREPARATION_ACTS).exclude(state__in=SETTLED)
    return before.filter(Q(participant=participant) | Q(participant=None)).exists()


def last_window_end(rotation: Rotation) -> datetime | None:
    """Return when the last window of a rotation ends (UTC): of all participants where each has its own moment."""
    if not signs_per_partner(rotation):
        return rotation.window_end
    own = [participant.ends for participant in active_participants(rotation)]
    return max((end for end in own if end is not None), default=rotation.window_end)


def switched_participants(rotation: Rotation) -> set[int]:
    """Return the participants (primary keys) towards which alone we have changed over, and not gone back."""
    done = rotation.steps.alone().filter(state="done")
    return set(done.exclude(key__startswith=f"{PAST_PREFIX}:").values_list("participant", flat=True))


def _lapsed_with_window(step: Step) -> bool:
    """Say whether a settled step went by with the old window."""
    if step.key.startswith(f"{PAST_PREFIX}:"):
        return False
    made = step.rotation.steps.filter(act=Act.CUT_OVER, participant=step.participant, state="done")
    made = made.exclude(key__startswith=f"{PAST_PREFIX}:")
    if step.act in (Act.HOLD, Act.RELEASE):
        return step.state == "done" and not made.filter(system=step.system).exists()
    return step.act == Act.AGREE and not (step.participant and made.exists())


def open_releases(rotation: Rotation) -> list[Step]:
    """Return the open steps that let messages go again, where they are held for this rotation now."""
    return filter_open_releases(list(rotation.steps.select_related("system")))


def filter_open_releases(steps: Sequence[Step]) -> list[Step]:
    """Return those of a rotation's steps that end a hold which was begun; they may be done before their turn."""
    held = {_hold_key(step) for step in steps if step.act == Act.HOLD and step.state == "done"}
    releases = [step for step in steps if step.act == Act.RELEASE and _hold_key(step) in held]
    return [step for step in releases if step.state not in ("done", "skipped")]


def _hold_key(step: Step) -> tuple[int | None, int | None, str]:
    """Name what a step holds or releases: all that leaves a system, or what goes to one participant, and which time."""
    which = step.key.split(":")[1] if step.key.startswith(f"{PAST_PREFIX}:") else ""
    return step.system_id, step.participant_id, which


def _renumber(kept: Iterable[Step], fresh: Sequence[Step]) -> None:
    position = {step.key: step.position for step in fresh}
    for step in kept:
        if step.position != position[step.key]:
            step.position = position[step.key]
            step.save(update_fields=["position"])
