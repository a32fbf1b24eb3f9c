"""What a page may ask of a plan: the things that go wrong most often, each as a behaviour and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rotations.planning.change import (
    Act,
    CertificateChange,
    Party,
    PlannedStep,
    Role,
    partner_side,
    sort_roles,
)
from rotations.planning.rules import THEIR_USE
from rotations.planning.simulation.clock_texts import format_duration
from rotations.planning.simulation.scenario_behaviour import (
    AS_PLANNED,
    Behaviour,
    PartnerBehaviour,
    WorkerKill,
    WorkerOutage,
)

DEVIATION = timedelta(hours=2)
"""By how much a partner is early or late."""
RESUME_DELAY = timedelta(minutes=2)
"""How soon the step of a killed worker is taken up by the next one."""


@dataclass(frozen=True)
class Scenario:
    """Something that may happen to a plan.

    `key` is the same for every plan with the same partners and systems and fits into an address; `text` is half a
    sentence, such as "If Northwind adds C2 two hours late".
    """

    key: str
    text: str
    behaviour: Behaviour


def list_scenarios(change: CertificateChange, steps: Sequence[PlannedStep]) -> tuple[Scenario, ...]:
    """List what is worth asking about the plan of a change; the first one is how it goes as planned."""
    found = [("as-planned", AS_PLANNED)]
    for party in change.parties:
        own = [step for step in steps if step.partner == party.key]
        found += [
            (f"{name}:{party.key}", Behaviour(partners={party.key: conduct}))
            for name, conduct in _partner_behaviours(change, own)
        ]
    found += _worker_behaviours(change, steps)
    return tuple(Scenario(key, describe_behaviour(change, steps, asked), asked) for key, asked in found)


def _partner_behaviours(
    change: CertificateChange, steps: Sequence[PlannedStep]
) -> Iterator[tuple[str, PartnerBehaviour]]:
    """List how a partner may behave that does these steps."""
    acts = {step.act for step in steps}
    if Act.INSTALL in acts:
        yield "late", PartnerBehaviour(shifts={Act.INSTALL: DEVIATION})
        yield "late-but-confirmed", PartnerBehaviour(shifts={Act.INSTALL: DEVIATION}, says_so=True)
        yield "never-but-confirmed", PartnerBehaviour(never=frozenset({Act.INSTALL}), says_so=True)
        yield "replaces", PartnerBehaviour(replaces=True)
        if Role.SIGN in change.roles:
            yield "not-for-mdns", PartnerBehaviour(forgets_mdns=True)
    if any(step.simultaneous for step in steps):
        yield "switches-late", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: DEVIATION})
        yield "switches-early", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: -DEVIATION})
        yield "pauses", PartnerBehaviour(pauses=True)
    elif Act.PARTNER_CUT_OVER in acts:
        if change.side == "partner":  # Our new certificate it can't use before we sent it.
            yield "switches-early", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: -DEVIATION})
        yield "never-switches", PartnerBehaviour(never=frozenset({Act.PARTNER_CUT_OVER}))
    roles = {effect.role for step in steps for effect in step.effects}
    for role in sort_roles(roles) if len(roles) > 1 else ():
        yield f"only-{role}", PartnerBehaviour(roles=frozenset({role}))


def _worker_behaviours(
    change: CertificateChange, steps: Sequence[PlannedStep]
) -> Iterator[tuple[str, Behaviour]]:
    """List what may happen to our own workers, where a step of the window carries itself out."""
    cut_overs = [step for step in steps if step.act is Act.CUT_OVER and step.automatic]
    for step in cut_overs:
        yield (
            ":".join(filter(None, ("killed", step.system, step.partner))),
            Behaviour(kills=(WorkerKill(step.key, 1, RESUME_DELAY),)),
        )
    if cut_overs:
        yield "down", Behaviour(outages=(WorkerOutage(change.first_start, change.last_end),))


def describe_behaviour(change: CertificateChange, steps: Sequence[PlannedStep], behaviour: Behaviour) -> str:
    """Say what a behaviour is, as the first half of a sentence: "If Northwind adds C2 two hours late"."""
    clauses = [
        clause
        for party in change.parties
        for clause in _describe_partner(change, party, steps, behaviour.of(party.key))
    ]
    titles = {step.key: step.title for step in steps}
    clauses += [
        f"our worker is killed during “{titles.get(kill.step, kill.step)}” and another one goes on "
        f"{format_duration(kill.gap)} later"
        for kill in behaviour.kills
    ]
    clauses += [
        f"no worker of ours runs for {format_duration(out.ends - out.begins)}" for out in behaviour.outages
    ]
    if behaviour.lag:
        clauses.append(f"our side switches {format_duration(behaviour.lag)} after the agreed moment")
    return "If " + (" and ".join(clauses) or "everybody keeps to the plan")


def _describe_partner(
    change: CertificateChange, party: Party, steps: Sequence[PlannedStep], conduct: PartnerBehaviour
) -> Iterator[str]:
    deeds = _act_phrases(change, party, steps)
    tied = {step.act for step in steps if step.partner == party.key and step.simultaneous}
    says_so = ", although it says in time that it has" if conduct.says_so else ""
    for act, shift in conduct.shifts.items():
        described = _describe_shift(shift, early="early" if act in tied else "too early")
        yield f"{party.name} {deeds[act]} {described}{says_so}"
    for act in Act:
        if act in conduct.never:
            yield f"{party.name} never {deeds[act]}{says_so}"
    if conduct.roles is not None:
        uses = " and ".join(THEIR_USE[role] for role in sort_roles(conduct.roles)) or "nothing"
        yield f"{party.name} installs {change.new_name} for {uses} only"
    if conduct.replaces:
        yield f"{party.name} replaces {change.old_name} at once instead of keeping both"
    if conduct.forgets_mdns:
        yield f"{party.name} installs {change.new_name} for our messages, but not for our MDNs"
    if conduct.pauses:
        yield f"{party.name} pauses its queue from an hour before the window until the tests have passed"
    if conduct.lag:
        yield f"{party.name} switches {format_duration(conduct.lag)} after the agreed moment"


def _describe_shift(shift: timedelta, *, early: str) -> str:
    if not shift:
        return "by the clock, whatever we do"
    return f"{format_duration(abs(shift))} {'late' if shift > timedelta(0) else early}"


def _act_phrases(change: CertificateChange, party: Party, steps: Sequence[PlannedStep]) -> dict[Act, str]:
    old, new = change.old_name, change.new_name
    moved = {
        e.role
        for s in steps
        for e in s.effects
        if s.act is Act.PARTNER_CUT_OVER and e.at == partner_side(party.key)
    }
    uses = " and ".join(THEIR_USE[role] for role in sort_roles(moved))
    return {
        Act.INSTALL: f"adds {new}" if change.side == "own" else f"loads {new}’s key",
        Act.AGREE: "agrees to the window",
        Act.PARTNER_CUT_OVER: f"switches to {new}" + (f" for {uses}" if uses else ""),
        Act.PARTNER_RETIRE: f"drops {old}",
    }
