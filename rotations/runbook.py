"""Turn a rotation into a change that can be planned, and the plan into steps that can be carried out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from identities.models import AS2System, Identity
from partners.models import Partner
from rotations import plan
from rotations.models import Participant, Rotation, Step

#: Key of "our side" in a plan where no AS2 system is connected: the change is then one of the inventory alone.
NO_SYSTEM = "none"

#: The act of the steps that lead back; they are not planned beforehand.
ROLL_BACK = "roll_back"


def change_of(rotation: Rotation, *, now: datetime, awaited: bool = False) -> plan.Change:
    """Return what a rotation asks for, as the planner wants it.

    Raises PlanError when the window is still missing, or the successor, unless it may be ``awaited``.
    """
    if rotation.window_start is None or rotation.window_end is None:
        raise plan.PlanError("The plan needs a window: choose when the change is to happen.")
    if rotation.new is None and not awaited:
        raise plan.PlanError("The plan needs the successor: generate, upload or choose the new certificate.")
    return plan.Change(
        side=rotation.side,
        roles=frozenset(plan.Role(role) for role in rotation.roles),
        systems=tuple(system_in_plan(system) for system in systems_of(rotation)),
        parties=tuple(party_in_plan(p.partner) for p in participants_of(rotation)),
        starts=rotation.window_start,
        ends=rotation.window_end,
        now=now,
        grace=timedelta(days=rotation.grace_days),
        old_name=rotation.old.short_name if rotation.old else "nothing",
        new_name=rotation.new.short_name if rotation.new else "the new certificate",
        holder_name=rotation.holder.name,
    )


def participants_of(rotation: Rotation) -> list[Participant]:
    """Return the participants that were not removed."""
    return list(rotation.participants.filter(removed_reason="").select_related("partner"))


def systems_of(rotation: Rotation) -> list[AS2System | None]:
    """Return the AS2 systems of ours that a rotation touches; None stands for "no system connected"."""
    if rotation.identity is not None:
        return [rotation.identity.as2_system]
    identities = Identity.objects.active().filter(
        partnerships__partner=rotation.partner, partnerships__archived_at=None
    )
    found = {identity.as2_system for identity in identities.select_related("as2_system")}
    return sorted(found, key=lambda system: (system is None, str(system))) or [None]


def party_in_plan(partner: Partner) -> plan.Party:
    """Return a partner as the planner wants it."""
    return plan.Party(key=str(partner.uid), name=partner.name, holds=plan.Holds(partner.holds))


def system_in_plan(system: AS2System | None) -> plan.System:
    """Return an AS2 system of ours as the planner wants it."""
    if system is None:
        return plan.System(key=NO_SYSTEM, name="our AS2 system", holds=plan.Holds.UNKNOWN)
    several = plan.Holds.SEVERAL if system.holds_several else plan.Holds.ONE
    return plan.System(
        key=str(system.uid),
        name=system.name,
        holds=plan.Holds.UNKNOWN if system.overlap == AS2System.Overlap.UNKNOWN else several,
        automatic=system.connector != "manual",
    )


def preview(rotation: Rotation, *, now: datetime, awaited: bool = False) -> list[Step]:
    """Return the steps that approving the rotation now would store, unsaved.

    Raises PlanError when it can't be planned; with ``awaited``, the successor may be missing.
    """
    steps = plan.plan(change_of(rotation, now=now, awaited=awaited))
    systems = {str(s.uid): s for s in systems_of(rotation) if s is not None}
    participants = {str(p.partner.uid): p for p in participants_of(rotation)}
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


def store(rotation: Rotation, *, now: datetime) -> None:
    """Write the plan down as steps, in place of those of an earlier plan that were not begun."""
    Step.objects.bulk_create(preview(rotation, now=now))


def replan(rotation: Rotation, *, now: datetime) -> None:
    """Plan again for a moved window, and keep what was done before: steps that are done stay done.

    Only what is tied to the window is asked for again: that partners agree to it, and that messages are held and
    released around a cut-over that is not made yet.
    """
    settled = {s.key: s for s in rotation.steps.filter(state__in=("done", "skipped")) if not _is_over(s)}
    rotation.steps.exclude(pk__in=[s.pk for s in settled.values()]).delete()
    fresh = preview(rotation, now=now)
    keys = {step.key for step in fresh}
    _renumber([s for key, s in settled.items() if key in keys], fresh)
    Step.objects.bulk_create(step for step in fresh if step.key not in settled)


def _is_over(step: Step) -> bool:
    """Say whether a settled step went by with the old window."""
    if step.act in (plan.Act.HOLD, plan.Act.RELEASE):
        same = step.rotation.steps.filter(act=plan.Act.CUT_OVER, system=step.system)
        return step.state == "done" and not same.filter(state="done").exists()
    return step.act == plan.Act.AGREE


def held_back(rotation: Rotation) -> list[Step]:
    """Return the open steps that let messages go again, where they are held for this rotation now."""
    return releasing(list(rotation.steps.select_related("system")))


def releasing(steps: Sequence[Step]) -> list[Step]:
    """Return those of a rotation's steps that end a hold which was begun; they may be done before their turn."""
    held = {step.system_id for step in steps if step.act == plan.Act.HOLD and step.state == "done"}
    releases = [step for step in steps if step.act == plan.Act.RELEASE and step.system_id in held]
    return [step for step in releases if step.state not in ("done", "skipped")]


def _renumber(kept: Iterable[Step], fresh: Sequence[Step]) -> None:
    position = {step.key: step.position for step in fresh}
    for step in kept:
        step.position = position[step.key]
        step.save(update_fields=["position"])


def our_effects(step: Step) -> dict[str, str]:
    """Return what a step does on our side: role → move."""
    return {e["role"]: e["move"] for e in step.effects if e["at"].startswith("us:")}
