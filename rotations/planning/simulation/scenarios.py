"""The scenarios of a plan: what goes wrong most often, each as a behaviour and as text."""

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
"""How soon the next worker resumes the step of a killed one."""


@dataclass(frozen=True)
class Scenario:
    """A behaviour that a plan may meet.

    `key` is the same for every plan with the same partners and systems, and fits into a URL; `text` is half a sentence,
    such as "If Northwind adds C2 two hours late".
    """

    key: str
    text: str
    behaviour: Behaviour


def list_scenarios(change: CertificateChange, steps: Sequence[PlannedStep]) -> tuple[Scenario, ...]:
    """Return the scenarios of a plan; in the first, everybody keeps to it."""
    found = [("as-planned", AS_PLANNED)]
    for party in change.parties:
        own = [step for step in steps if step.partner == party.key]
        found += [
            (f"{name}:{party.key}", Behaviour(partners={party.key: partner_behaviour}))
            for name, partner_behaviour in _partner_behaviours(change, own)
        ]
    found += _worker_behaviours(change, steps)
    return tuple(Scenario(key, describe_behaviour(change, steps, asked), asked) for key, asked in found)


def _partner_behaviours(
    change: CertificateChange, steps: Sequence[PlannedStep]
) -> Iterator[tuple[str, PartnerBehaviour]]:
    """Yield the possible behaviours of a partner that has these steps."""
    acts = {step.act for step in steps}
    if Act.INSTALL in acts:
        yield "late", PartnerBehaviour(shifts={Act.INSTALL: DEVIATION})
        yield "late-but-confirmed", PartnerBehaviour(shifts={Act.INSTALL: DEVIATION}, claims_done=True)
        yield "never-but-confirmed", PartnerBehaviour(never=frozenset({Act.INSTALL}), claims_done=True)
        yield "replaces", PartnerBehaviour(replaces=True)
        if Role.SIGN in change.roles:
            yield "not-for-mdns", PartnerBehaviour(forgets_mdns=True)
    if any(step.simultaneous for step in steps):
        yield "switches-late", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: DEVIATION})
        yield "switches-early", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: -DEVIATION})
        yield "pauses", PartnerBehaviour(pauses=True)
    elif Act.PARTNER_CUT_OVER in acts:
        if change.side == "partner":  # It can't use our new certificate before we send it.
            yield "switches-early", PartnerBehaviour(shifts={Act.PARTNER_CUT_OVER: -DEVIATION})
        yield "never-switches", PartnerBehaviour(never=frozenset({Act.PARTNER_CUT_OVER}))
    roles = {effect.role for step in steps for effect in step.effects}
    for role in sort_roles(roles) if len(roles) > 1 else ():
        yield f"only-{role}", PartnerBehaviour(roles=frozenset({role}))


def _worker_behaviours(change: CertificateChange, steps: Sequence[PlannedStep]) -> Iterator[tuple[str, Behaviour]]:
    """Yield the possible failures of our workers, if they carry out a step in the window."""
    cut_overs = [step for step in steps if step.act is Act.CUT_OVER and step.automatic]
    for step in cut_overs:
        yield (
            ":".join(filter(None, ("killed", step.system, step.partner))),
            Behaviour(kills=(WorkerKill(step.key, 1, RESUME_DELAY),)),
        )
    if cut_overs:
        yield "down", Behaviour(outages=(WorkerOutage(change.first_start, change.last_end),))


def describe_behaviour(change: CertificateChange, steps: Sequence[PlannedStep], behaviour: Behaviour) -> str:
    """Return a behaviour as the first half of a sentence, such as "If Northwind adds C2 two hours late"."""
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
    clauses += [f"no worker of ours runs for {format_duration(out.ends - out.begins)}" for out in behaviour.outages]
    if behaviour.lag:
        clauses.append(f"our side switches {format_duration(behaviour.lag)} after the agreed moment")
    return "If " + (" and ".join(clauses) or "everybody keeps to the plan")


def _describe_partner(
    change: CertificateChange, party: Party, steps: Sequence[PlannedStep], partner_behaviour: PartnerBehaviour
) -> Iterator[str]:
    phrases = _act_phrases(change, party, steps)
    simultaneous = {step.act for step in steps if step.partner == party.key and step.simultaneous}
    claims_done = ", although it says in time that it has" if partner_behaviour.claims_done else ""
    for act, shift in partner_behaviour.shifts.items():
        described = _describe_shift(shift, early="early" if act in simultaneous else "too early")
        yield f"{party.name} {phrases[act]} {described}{claims_done}"
    for act in Act:
        if act in partner_behaviour.never:
            yield f"{party.name} never {phrases[act]}{claims_done}"
    if partner_behaviour.roles is not None:
        uses = " and ".join(THEIR_USE[role] for role in sort_roles(partner_behaviour.roles)) or "nothing"
        yield f"{party.name} installs {change.new_name} for {uses} only"
    if partner_behaviour.replaces:
        yield f"{party.name} replaces {change.old_name} at once instead of keeping both"
    if partner_behaviour.forgets_mdns:
        yield f"{party.name} installs {change.new_name} for our messages, but not for our MDNs"
    if partner_behaviour.pauses:
        yield f"{party.name} pauses its queue from an hour before the window until the tests have passed"
    if partner_behaviour.lag:
        yield f"{party.name} switches {format_duration(partner_behaviour.lag)} after the agreed moment"


def _describe_shift(shift: timedelta, *, early: str) -> str:
    if not shift:
        return "by the clock, whatever we do"
    return f"{format_duration(abs(shift))} {'late' if shift > timedelta(0) else early}"


def _act_phrases(change: CertificateChange, party: Party, steps: Sequence[PlannedStep]) -> dict[Act, str]:
    old, new = change.old_name, change.new_name
    moved = {
        e.role for s in steps for e in s.effects if s.act is Act.PARTNER_CUT_OVER and e.at == partner_side(party.key)
    }
    uses = " and ".join(THEIR_USE[role] for role in sort_roles(moved))
    return {
        Act.INSTALL: f"adds {new}" if change.side == "own" else f"loads {new}’s key",
        Act.AGREE: "agrees to the window",
        Act.PARTNER_CUT_OVER: f"switches to {new}" + (f" for {uses}" if uses else ""),
        Act.PARTNER_RETIRE: f"drops {old}",
    }
