"""What a page may ask of a plan: the things that go wrong most often, each as a behaviour and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rotations.planning.change import Act, Change, Party, Role, Step, in_order, them
from rotations.planning.rules import THEIR_USE
from rotations.planning.simulation.clock_texts import length
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour, Conduct, Kill, Outage

OFF = timedelta(hours=2)
"""By how much a partner is early or late."""
TAKEN_UP = timedelta(minutes=2)
"""How soon the step of a killed worker is taken up by the next one."""


@dataclass(frozen=True)
class Question:
    """Something that may happen to a plan.

    `key` is the same for every plan with the same partners and systems and fits into an address; `text` is half a
    sentence, such as "If Northwind adds C2 two hours late".
    """

    key: str
    text: str
    behaviour: Behaviour


def questions(change: Change, steps: Sequence[Step]) -> tuple[Question, ...]:
    """List what is worth asking about the plan of a change; the first one is how it goes as planned."""
    found = [("as-planned", AS_PLANNED)]
    for party in change.parties:
        own = [step for step in steps if step.partner == party.key]
        found += [
            (f"{name}:{party.key}", Behaviour(partners={party.key: conduct}))
            for name, conduct in _conducts(change, own)
        ]
    found += _workers(change, steps)
    return tuple(Question(key, condition(change, steps, asked), asked) for key, asked in found)


def _conducts(change: Change, steps: Sequence[Step]) -> Iterator[tuple[str, Conduct]]:
    """List how a partner may behave that does these steps."""
    acts = {step.act for step in steps}
    if Act.INSTALL in acts:
        yield "late", Conduct(shifts={Act.INSTALL: OFF})
        yield "late-but-confirmed", Conduct(shifts={Act.INSTALL: OFF}, says_so=True)
        yield "never-but-confirmed", Conduct(never=frozenset({Act.INSTALL}), says_so=True)
        yield "replaces", Conduct(replaces=True)
        if Role.SIGN in change.roles:
            yield "not-for-mdns", Conduct(forgets_mdns=True)
    if any(step.simultaneous for step in steps):
        yield "switches-late", Conduct(shifts={Act.PARTNER_CUT_OVER: OFF})
        yield "switches-early", Conduct(shifts={Act.PARTNER_CUT_OVER: -OFF})
        yield "pauses", Conduct(pauses=True)
    elif Act.PARTNER_CUT_OVER in acts:
        if change.side == "partner":  # Our new certificate it can't use before we sent it.
            yield "switches-early", Conduct(shifts={Act.PARTNER_CUT_OVER: -OFF})
        yield "never-switches", Conduct(never=frozenset({Act.PARTNER_CUT_OVER}))
    roles = {effect.role for step in steps for effect in step.effects}
    for role in in_order(roles) if len(roles) > 1 else ():
        yield f"only-{role}", Conduct(roles=frozenset({role}))


def _workers(change: Change, steps: Sequence[Step]) -> Iterator[tuple[str, Behaviour]]:
    """List what may happen to our own workers, where a step of the window carries itself out."""
    cut_overs = [step for step in steps if step.act is Act.CUT_OVER and step.automatic]
    for step in cut_overs:
        yield (
            ":".join(filter(None, ("killed", step.system, step.partner))),
            Behaviour(kills=(Kill(step.key, 1, TAKEN_UP),)),
        )
    if cut_overs:
        yield "down", Behaviour(outages=(Outage(change.first_start, change.last_end),))


def condition(change: Change, steps: Sequence[Step], behaviour: Behaviour) -> str:
    """Say what a behaviour is, as the first half of a sentence: "If Northwind adds C2 two hours late"."""
    clauses = [
        clause
        for party in change.parties
        for clause in _told_of_partner(change, party, steps, behaviour.of(party.key))
    ]
    titles = {step.key: step.title for step in steps}
    clauses += [
        f"our worker is killed during “{titles.get(kill.step, kill.step)}” and another one goes on "
        f"{length(kill.gap)} later"
        for kill in behaviour.kills
    ]
    clauses += [f"no worker of ours runs for {length(out.ends - out.begins)}" for out in behaviour.outages]
    if behaviour.lag:
        clauses.append(f"our side switches {length(behaviour.lag)} after the agreed moment")
    return "If " + (" and ".join(clauses) or "everybody keeps to the plan")


def _told_of_partner(change: Change, party: Party, steps: Sequence[Step], conduct: Conduct) -> Iterator[str]:
    deeds = _deeds(change, party, steps)
    tied = {step.act for step in steps if step.partner == party.key and step.simultaneous}
    says_so = ", although it says in time that it has" if conduct.says_so else ""
    for act, shift in conduct.shifts.items():
        yield f"{party.name} {deeds[act]} {_when(shift, early='early' if act in tied else 'too early')}{says_so}"
    for act in Act:
        if act in conduct.never:
            yield f"{party.name} never {deeds[act]}{says_so}"
    if conduct.roles is not None:
        uses = " and ".join(THEIR_USE[role] for role in in_order(conduct.roles)) or "nothing"
        yield f"{party.name} installs {change.new_name} for {uses} only"
    if conduct.replaces:
        yield f"{party.name} replaces {change.old_name} at once instead of keeping both"
    if conduct.forgets_mdns:
        yield f"{party.name} installs {change.new_name} for our messages, but not for our MDNs"
    if conduct.pauses:
        yield f"{party.name} pauses its queue from an hour before the window until the tests have passed"
    if conduct.lag:
        yield f"{party.name} switches {length(conduct.lag)} after the agreed moment"


def _when(shift: timedelta, *, early: str) -> str:
    if not shift:
        return "by the clock, whatever we do"
    return f"{length(abs(shift))} {'late' if shift > timedelta(0) else early}"


def _deeds(change: Change, party: Party, steps: Sequence[Step]) -> dict[Act, str]:
    old, new = change.old_name, change.new_name
    moved = {
        e.role for s in steps for e in s.effects if s.act is Act.PARTNER_CUT_OVER and e.at == them(party.key)
    }
    uses = " and ".join(THEIR_USE[role] for role in in_order(moved))
    return {
        Act.INSTALL: f"adds {new}" if change.side == "own" else f"loads {new}’s key",
        Act.AGREE: "agrees to the window",
        Act.PARTNER_CUT_OVER: f"switches to {new}" + (f" for {uses}" if uses else ""),
        Act.PARTNER_RETIRE: f"drops {old}",
    }
