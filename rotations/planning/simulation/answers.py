"""What a simulation shows, in sentences for a page."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from rotations.planning.change import Act, CertificateChange, PlannedStep, our_side, our_side_to, partner_side
from rotations.planning.simulation.clock_texts import ZoneClock
from rotations.planning.simulation.failures import group_failures
from rotations.planning.simulation.run import ALWAYS_VALID, SimulationResult, simulate
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour
from rotations.planning.simulation.scenarios import describe_behaviour
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.timeline import StepRun
from rotations.planning.simulation.traffic import Traffic

PAGE_TRAFFIC = Traffic(every=timedelta(minutes=15))
"""The traffic that answers speak of: a message every quarter of an hour, each way, with each partner."""

PUNCTUALITY = timedelta(minutes=1)


@dataclass(frozen=True)
class SimulationAnswer:
    """What comes of a plan under a condition.

    `condition` is half a sentence, `sentences` say what follows and are never empty. `level` is "bad" where messages
    are lost, never sent, or delivered twice against the law; "warning" where some are rejected or delivered twice
    while both sides switch, or our side does not change in the window; else "good".
    """

    condition: str
    sentences: tuple[str, ...]
    level: Literal["good", "warning", "bad"]
    outcome: SimulationResult

    def __str__(self) -> str:
        """Tell all of it in one paragraph."""
        return f"{self.condition}: {' '.join(self.sentences)}"


def what_if(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour = AS_PLANNED,
    *,
    traffic: Traffic = PAGE_TRAFFIC,
    validity: CertificateValidity = ALWAYS_VALID,
    done: Mapping[str, datetime] | None = None,
    skipped: Collection[str] = (),
    zone: str = "UTC",
) -> SimulationAnswer:
    """Say what comes of a plan when it is carried out like this, with moments on the clock of an IANA zone.

    `steps` is `rotations.planning.plan.plan(change)`; `validity` says when the old certificate ends and the new one
    begins. For a rotation that has begun, `done` maps the keys of steps that are done to when that was, and `skipped`
    holds those of steps that are left out. Nothing is stored, and nothing is asked of any AS2 system. Raises
    UnknownZone.
    """
    outcome = simulate(
        change, steps, behaviour, traffic=traffic, validity=validity, done=done, skipped=skipped
    )
    report = _Report(change, outcome, validity, ZoneClock(zone))
    sentences = (
        *report.about_cut_overs(),
        *(trouble.told(report.clock) for trouble in group_failures(change, outcome, traffic, validity)),
        *([] if outcome.mishaps else ["No message is rejected, lost or delivered twice."]),
        *report.about_pauses(),
        *report.about_retiring(),
    )
    return SimulationAnswer(describe_behaviour(change, steps, behaviour), sentences, _level(outcome), outcome)


def _level(outcome: SimulationResult) -> Literal["good", "warning", "bad"]:
    if outcome.lost or outcome.stuck or (outcome.twice and outcome.violations):
        return "bad"
    return "warning" if outcome.mishaps or outcome.violations or not outcome.made else "good"


class _Report:
    """Tell what became of the steps."""

    def __init__(
        self,
        change: CertificateChange,
        outcome: SimulationResult,
        validity: CertificateValidity,
        clock: ZoneClock,
    ) -> None:
        self.change, self.outcome, self.validity, self.clock = change, outcome, validity, clock
        self.done = {h.step.key: h.done for h in outcome.happenings}
        self.steps = {h.step.key: h.step for h in outcome.happenings}

    def of(self, act: Act) -> list[StepRun]:
        return [happening for happening in self.outcome.happenings if happening.step.act is act]

    def about_cut_overs(self) -> Iterator[str]:
        """Tell what becomes of our cut-overs; what signs by default concerns nobody who takes part."""
        for happening in self.of(Act.CUT_OVER):
            starts = happening.step.earliest or self.change.starts
            if happening.step.latest is None:
                continue
            if happening.done is None:
                yield self.about_missed(happening)
            elif happening.done > starts + PUNCTUALITY and happening.writes:
                missing = self.missing(happening.step, starts)
                for_what = f", because it waits for {missing}" if missing else ""
                where, when = self.system_of(happening.step), self.clock.moment(happening.done)
                yield f"We make the change in {where} on {when}{for_what}."

    def about_missed(self, happening: StepRun) -> str:
        where = self.system_of(happening.step)
        if happening.writes:
            return (
                f"The change in {where} is begun, but not finished before the window ends: somebody has to look at "
                f"what {where} holds."
            )
        missing = self.missing(happening.step, happening.step.latest or self.change.ends)
        why = f"{missing} is not done by then" if missing else "no worker of ours runs before that"
        old, until = self.change.old_name, self.validity.old_until
        by = f" before {old} ends on {self.clock.moment(until)}" if until else ""
        return (
            f"We do not make the change in {where} before the window ends, because {why}; {old} stays in use there. "
            f"Agree a new window{by}."
        )

    def missing(self, step: PlannedStep, by: datetime) -> str:
        """Name what keeps a step from being done by a moment: what it waits for, and does not wait itself."""
        return " and ".join(f"“{self.steps[key].title}”" for key in dict.fromkeys(self.causes(step, by)))

    def causes(self, step: PlannedStep, by: datetime) -> Iterator[str]:
        for key in step.after:
            done = self.done.get(key)
            if key in self.steps and (done is None or done > by):
                yield from (list(self.causes(self.steps[key], by)) or [key])

    def about_retiring(self) -> Iterator[str]:
        """Tell where the old certificate stays, although our side has changed."""
        for happening in self.of(Act.RETIRE) if self.outcome.made else ():
            if happening.done is None:
                missing = self.missing(happening.step, self.outcome.span[1])
                yield f"{self.change.old_name} stays in {self.system_of(happening.step)} until {missing} is done."

    def system_of(self, step: PlannedStep) -> str:
        name = next((s.name for s in self.change.systems if s.key == step.system), "our AS2 system")
        party = next((p.name for p in self.change.parties if p.key == step.partner), "")
        return f"{name} for {party}" if party else name

    def about_pauses(self) -> Iterator[str]:
        sides = {our_side(s.key): (s.name, "of our messages from") for s in self.change.systems}
        sides |= {partner_side(p.key): (p.name, "of the messages from") for p in self.change.parties}
        sides |= {
            our_side_to(s.key, p.key): (f"{s.name} to {p.name}", "of our messages from")
            for s in self.change.systems
            for p in self.change.parties
        }
        for at, pause in self.outcome.pauses.items():
            name, whose = sides[at]
            waited = sum(tally.waited for tally in self.outcome.tallies if at in tally.queues)
            if pause.ends is None:
                missing = self.unreleased(at)
                why = f", because it waits for {missing}" if missing else ""
                yield f"Nothing in the plan releases the queue of {name} then{why}: somebody has to."
            elif waited:
                subject = f"One {whose} {name} waits" if waited == 1 else f"{waited} {whose} {name} wait"
                when = self.clock.during(pause.begins, pause.ends)
                yield f"{subject} {when}, and {'goes' if waited == 1 else 'go'} out then."

    def unreleased(self, at: str) -> str:
        """Name what the release of a queue waits for."""
        releases = [h.step for h in self.of(Act.RELEASE) if h.step.at == at]
        return self.missing(releases[0], self.outcome.span[1]) if releases else ""
