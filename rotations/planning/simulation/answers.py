"""The result of a simulation in sentences, for a page."""

from collections.abc import Iterator, Sequence
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
from rotations.planning.simulation.timeline import NOT_STARTED, Progress, StepRun
from rotations.planning.simulation.traffic import Traffic

PAGE_TRAFFIC = Traffic(every=timedelta(minutes=15))
"""The traffic of answers: a message every quarter of an hour, each way, with each partner."""

PUNCTUALITY = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class SimulationAnswer:
    """The consequences of a behaviour for a plan.

    `condition` is half a sentence, `sentences` are the consequences and never empty. `level` is "bad" if messages are
    lost, never sent, or delivered twice against the rules; "warning" if some are rejected or delivered twice while both
    sides switch, or our side does not switch in the window; else "good".
    """

    condition: str
    sentences: tuple[str, ...]
    level: Literal["good", "warning", "bad"]
    result: SimulationResult

    def __str__(self) -> str:
        """Return everything in one paragraph."""
        return f"{self.condition}: {' '.join(self.sentences)}"


def what_if(
    change: CertificateChange,
    steps: Sequence[PlannedStep],
    behaviour: Behaviour = AS_PLANNED,
    *,
    validity: CertificateValidity = ALWAYS_VALID,
    progress: Progress = NOT_STARTED,
    zone: str = "UTC",
) -> SimulationAnswer:
    """Return the consequences of a behaviour, with times in the IANA `zone`; `steps` is `plan(change)`.

    For a rotation that has begun, `progress` has its steps that are done or skipped. Raises UnknownZone.
    """
    result = simulate(change, steps, behaviour, traffic=PAGE_TRAFFIC, validity=validity, progress=progress)
    report = _Report(change, result, validity, ZoneClock(zone))
    sentences = (
        *report.about_cut_overs(),
        *(group.sentence(report.clock) for group in group_failures(change, result, PAGE_TRAFFIC, validity)),
        *([] if result.disrupted else ["No message is rejected, lost or delivered twice."]),
        *report.about_pauses(),
        *report.about_retiring(),
    )
    return SimulationAnswer(describe_behaviour(change, steps, behaviour), sentences, _level(result), result)


def _level(result: SimulationResult) -> Literal["good", "warning", "bad"]:
    if result.lost or result.stuck or (result.twice and result.violations):
        return "bad"
    return "warning" if result.disrupted or result.violations or not result.made else "good"


class _Report:
    """Describe the execution of the steps."""

    def __init__(
        self,
        change: CertificateChange,
        result: SimulationResult,
        validity: CertificateValidity,
        clock: ZoneClock,
    ) -> None:
        self.change, self.result, self.validity, self.clock = change, result, validity, clock
        self.done = {h.step.key: h.done for h in result.step_runs}
        self.steps = {h.step.key: h.step for h in result.step_runs}

    def of(self, act: Act) -> list[StepRun]:
        return [step_run for step_run in self.result.step_runs if step_run.step.act is act]

    def about_cut_overs(self) -> Iterator[str]:
        """Describe our cut-overs, except those of the default, which concern nobody who takes part."""
        for step_run in self.of(Act.CUT_OVER):
            starts = step_run.step.earliest or self.change.starts
            if step_run.step.latest is None:
                continue
            if step_run.done is None:
                yield self.about_missed(step_run)
            elif step_run.done > starts + PUNCTUALITY and step_run.writes:
                # Where each partner changes when it is ready, only what comes last keeps us from it.
                by = step_run.done - INSTANT if self.change.phased else starts
                missing = self.missing(step_run.step, by)
                for_what = f", because it waits for {missing}" if missing else ""
                where, when = self.system_of(step_run.step), self.clock.moment(step_run.done)
                yield f"We make the change in {where} on {when}{for_what}."

    def about_missed(self, step_run: StepRun) -> str:
        where = self.system_of(step_run.step)
        if step_run.writes:
            return (
                f"The change in {where} is begun, but not finished before the window ends: somebody has to look at "
                f"what {where} holds."
            )
        missing = self.missing(step_run.step, step_run.step.latest or self.change.ends)
        why = f"{missing} is not done by then" if missing else "no worker of ours runs before that"
        old, until = self.change.old_name, self.validity.old_until
        by = f" before {old} ends on {self.clock.moment(until)}" if until else ""
        return (
            f"We do not make the change in {where} before the window ends, because {why}; {old} stays in use there. "
            f"Agree a new window{by}."
        )

    def missing(self, step: PlannedStep, by: datetime) -> str:
        """Return the titles of the steps that keep a step from being done by a time, and do not wait themselves."""
        return " and ".join(f"“{self.steps[key].title}”" for key in dict.fromkeys(self.causes(step, by)))

    def causes(self, step: PlannedStep, by: datetime) -> Iterator[str]:
        for key in step.after:
            done = self.done.get(key)
            if key in self.steps and (done is None or done > by):
                yield from (list(self.causes(self.steps[key], by)) or [key])

    def about_retiring(self) -> Iterator[str]:
        """Describe where the old certificate stays although our side has switched."""
        for step_run in self.of(Act.RETIRE) if self.result.made else ():
            if step_run.done is None:
                missing = self.missing(step_run.step, self.result.span[1])
                yield f"{self.change.old_name} stays in {self.system_of(step_run.step)} until {missing} is done."

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
        for at, pause in self.result.pauses.items():
            name, messages = sides[at]
            waited = sum(flow.waited for flow in self.result.flows if at in flow.queues)
            if pause.ends is None:
                missing = self.unreleased(at)
                why = f", because it waits for {missing}" if missing else ""
                yield f"Nothing in the plan releases the queue of {name} then{why}: somebody has to."
            elif waited:
                subject = f"One {messages} {name} waits" if waited == 1 else f"{waited} {messages} {name} wait"
                when = self.clock.during(pause.begins, pause.ends)
                yield f"{subject} {when}, and {'goes' if waited == 1 else 'go'} out then."

    def unreleased(self, at: str) -> str:
        """Return the titles of the steps that the release of a queue waits for."""
        releases = [h.step for h in self.of(Act.RELEASE) if h.step.at == at]
        return self.missing(releases[0], self.result.span[1]) if releases else ""
