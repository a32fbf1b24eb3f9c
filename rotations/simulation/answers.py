"""What a simulation shows, in sentences for a page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from rotations.parts import Act, Change, Step, them, us
from rotations.simulation.behaviour import AS_PLANNED, Behaviour
from rotations.simulation.course import Happening
from rotations.simulation.outcome import ANY_TIME, Outcome, simulate
from rotations.simulation.questions import condition
from rotations.simulation.stations import Validity
from rotations.simulation.traffic import Mishap, Reason, Tally, Traffic
from rotations.windows import in_zones

ON_A_PAGE = Traffic(every=timedelta(minutes=15))
"""The traffic that answers speak of: a message every quarter of an hour, each way, with each partner."""

APART = timedelta(hours=12)
"""Messages that fail for the same reason are told of together unless so much time lies between them."""
LATE = timedelta(minutes=1)


@dataclass(frozen=True)
class Answer:
    """What comes of a plan under a condition.

    `condition` is half a sentence, `sentences` say what follows and are never empty. `level` is "bad" where messages
    are lost, never sent, or delivered twice against the law; "warning" where some are rejected or delivered twice
    while both sides switch, or our side does not change in the window; else "good".
    """

    condition: str
    sentences: tuple[str, ...]
    level: Literal["good", "warning", "bad"]
    outcome: Outcome

    def __str__(self) -> str:
        """Tell all of it in one paragraph."""
        return f"{self.condition}: {' '.join(self.sentences)}"


def what_if(
    change: Change,
    steps: Sequence[Step],
    behaviour: Behaviour = AS_PLANNED,
    *,
    traffic: Traffic = ON_A_PAGE,
    validity: Validity = ANY_TIME,
    done: Mapping[str, datetime] | None = None,
    zone: str = "UTC",
) -> Answer:
    """Say what comes of a plan when it is carried out like this, with moments on the clock of an IANA zone.

    `steps` is `rotations.plan.plan(change)`; `validity` says when the old certificate ends and the new one begins;
    `done` maps the keys of steps that are done already to when that was. Nothing is stored, and nothing is asked of
    any AS2 system. Raises UnknownZone.
    """
    outcome = simulate(change, steps, behaviour, traffic=traffic, validity=validity, done=done)
    sentences = tuple(_Report(change, traffic, outcome, zone).sentences())
    return Answer(condition(change, steps, behaviour), sentences, _level(outcome), outcome)


def _level(outcome: Outcome) -> Literal["good", "warning", "bad"]:
    if outcome.lost or outcome.stuck or (outcome.twice and outcome.violations):
        return "bad"
    made = all(h.done is not None for h in outcome.happenings if h.step.act is Act.CUT_OVER)
    return "warning" if outcome.mishaps or outcome.violations or not made else "good"


class _Report:
    """Put one outcome into words."""

    def __init__(self, change: Change, traffic: Traffic, outcome: Outcome, zone: str) -> None:
        self.change, self.traffic, self.outcome, self.zone = change, traffic, outcome, zone
        self.done = {h.step.key: h.done for h in outcome.happenings}
        self.steps = {h.step.key: h.step for h in outcome.happenings}

    def sentences(self) -> Iterator[str]:
        yield from self.about_cut_overs()
        for tally in self.outcome.tallies:
            for run in _runs(tally.mishaps):
                yield self.about_run(tally, run)
        if not self.outcome.mishaps:
            yield "No message is rejected, lost or delivered twice."
        yield from self.about_pauses()
        yield from self.about_retiring()

    # The steps.

    def about_cut_overs(self) -> Iterator[str]:
        for happening in self.outcome.happenings:
            if happening.step.act is Act.CUT_OVER:
                yield from self.about_cut_over(happening)

    def about_cut_over(self, happening: Happening) -> Iterator[str]:
        step = happening.step
        where = self.name_of(step)
        if happening.done is None and happening.writes:
            yield (
                f"The change in {where} is begun, but not finished before the window ends: somebody has to look at "
                f"what {where} holds."
            )
        elif happening.done is None:
            missing = self.missing(step, self.change.ends)
            why = f"{missing} is not done by then" if missing else "no worker of ours runs before that"
            yield (
                f"We do not make the change in {where} before the window ends, because {why}; "
                f"{self.change.old_name} stays in use there. Agree a new window."
            )
        elif happening.done > self.change.starts + LATE:
            missing = self.missing(step, self.change.starts)
            for_what = f", because it waits for {missing}" if missing else ""
            yield f"We make the change in {where} on {self.moment(happening.done)}{for_what}."

    def missing(self, step: Step, by: datetime) -> str:
        """Name what keeps a step from being done by a moment: what it waits for, and does not wait itself."""
        return " and ".join(f"“{self.steps[key].title}”" for key in dict.fromkeys(self.causes(step, by)))

    def causes(self, step: Step, by: datetime) -> Iterator[str]:
        for key in step.after:
            done = self.done.get(key)
            if key in self.steps and (done is None or done > by):
                yield from (list(self.causes(self.steps[key], by)) or [key])

    def about_retiring(self) -> Iterator[str]:
        """Tell where the old certificate stays, although our side has changed."""
        by_act = {act: [h for h in self.outcome.happenings if h.step.act is act] for act in Act}
        if any(happening.done is None for happening in by_act[Act.CUT_OVER]):
            return
        for happening in by_act[Act.RETIRE]:
            if happening.done is None:
                missing = self.missing(happening.step, self.outcome.span[1])
                yield f"{self.change.old_name} stays in {self.name_of(happening.step)} until {missing} is done."

    def name_of(self, step: Step) -> str:
        return next((s.name for s in self.change.systems if s.key == step.system), "our AS2 system")

    # The messages.

    def about_run(self, tally: Tally, run: Sequence[Mishap]) -> str:
        goes_on = (
            tally.broken and run[-1].created + 2 * self.traffic.every >= self.outcome.span[1] and len(run) > 1
        )
        if run[0].stuck and not run[0].failures:
            return f"From {self.moment(run[0].created)} on, {_all_of(self.change, tally)} wait and are never sent."
        if goes_on:
            return self.about_the_end(tally, run)
        when = self.when(run[0].created, run[-1].created)
        if run[0].failures[0].reason is Reason.MDN_SIGNATURE_FAILED:
            return self.about_doubles(tally, run, when)
        return self.about_rejections(tally, run, when)

    def about_rejections(self, tally: Tally, run: Sequence[Mishap], when: str) -> str:
        lost, twice, one = sum(m.lost for m in run), sum(m.twice for m in run), len(run) == 1
        if not lost:
            end = "it goes through with a retry" if one else "they go through with the retries"
            end += ", nothing is lost"
        elif lost == len(run):
            end = "it is lost when its retries run out" if one else "all are lost when their retries run out"
        else:
            end = f"{lost} of them {'is' if lost == 1 else 'are'} lost when the retries run out"
        end += f", and {twice} of them {'is' if twice == 1 else 'are'} delivered twice" if twice else ""
        verb = "is" if one else "are"
        return f"{_some_of(self.change, tally, len(run))} {when} {verb} rejected with {self.reason(run[0])}; {end}."

    def about_doubles(self, tally: Tally, run: Sequence[Mishap], when: str) -> str:
        one, twice = len(run) == 1, sum(m.twice for m in run)
        who, them_, verb = ("it", "it", "is") if one else ("they", "them", "are")
        most = max(len(mishap.delivered) for mishap in run)
        often = "twice" if most == 2 else f"up to {most} times"
        if not twice:
            end = f"{who} {'counts' if one else 'count'} as failed at the sender"
        else:
            again = "we send" if tally.outbound else f"{tally.party.name} sends"
            which = who if twice == len(run) else f"{twice} of them"
            is_ = "is" if twice == 1 else "are"
            end = f"{again} {them_} again, and {which} {is_} delivered {often}"
        subject = _some_of(self.change, tally, len(run))
        return f"{subject} {when} {verb} processed, but {_whose_mdn(tally)}: {end}."

    def about_the_end(self, tally: Tally, run: Sequence[Mishap]) -> str:
        """Tell of messages that fail from some moment on and would go on failing."""
        subject = f"From {self.moment(run[0].created)} on, {_all_of(self.change, tally)}"
        if run[-1].failures[0].reason is Reason.MDN_SIGNATURE_FAILED:
            times = max(len(mishap.delivered) for mishap in run)
            again = f"sent again and delivered up to {times} times" if times > 1 else "counted as failed"
            return f"{subject} are processed, but {_whose_mdn(tally)}: they are {again}, until somebody steps in."
        return (
            f"{subject} are rejected with {self.reason(run[-1])} and lost when their retries run out, until "
            "somebody steps in."
        )

    def reason(self, mishap: Mishap) -> str:
        failure = mishap.failures[0]
        return f"{failure.reason}" + (
            ", because the certificate is not valid then" if failure.expired else ""
        )

    def about_pauses(self) -> Iterator[str]:
        sides = {us(s.key): (s.name, True) for s in self.change.systems}
        sides |= {them(p.key): (p.name, False) for p in self.change.parties}
        for at, pause in self.outcome.pauses.items():
            name, ours = sides[at]
            waited = sum(
                tally.waited
                for tally in self.outcome.tallies
                if tally.outbound == ours and at in (us(tally.system.key), them(tally.party.key))
            )
            if pause.ends is None:
                yield f"Nothing in the plan releases the queue of {name} then{self.unreleased(at)}: somebody has to."
            elif waited:
                when = self.when(pause.begins, pause.ends, words=("from", "until"))
                whose = "of our messages from" if ours else "of the messages from"
                subject = f"One {whose} {name} waits" if waited == 1 else f"{waited} {whose} {name} wait"
                yield f"{subject} {when}, and {'goes' if waited == 1 else 'go'} out then."

    def unreleased(self, at: str) -> str:
        for happening in self.outcome.happenings:
            step = happening.step
            if step.act is Act.RELEASE and us(step.system or "") == at:
                missing = self.missing(step, self.outcome.span[1])
                return f", because it waits for {missing}" if missing else ""
        return ""

    # Moments, in words.

    def moment(self, at: datetime) -> str:
        """Tell a moment to the minute: "Wed 25 Nov 2026, 04:10 UTC"."""
        return in_zones(at.replace(second=0, microsecond=0), [self.zone])[0][1]

    def when(self, first: datetime, last: datetime, *, words: tuple[str, str] = ("between", "and")) -> str:
        """Tell from when until when something happened, the day once where it is the same."""
        since, until = words
        (day, clock), (last_day, last_clock) = (self.moment(m).split(", ", 1) for m in (first, last))
        if (day, clock) == (last_day, last_clock):
            return f"on {day} at {clock}"
        if day == last_day:
            return f"on {day} {since} {clock.split()[0]} {until} {last_clock}"
        return f"{since} {day}, {clock} {until} {last_day}, {last_clock}"


def _runs(mishaps: Iterable[Mishap]) -> Iterator[list[Mishap]]:
    """Group the mishaps of one flow by what they failed with, unless much time lies between them."""
    runs: dict[object, list[Mishap]] = {}
    done: list[list[Mishap]] = []
    for mishap in mishaps:
        first = mishap.failures[0] if mishap.failures else None
        key = (first.reason, first.expired) if first else None
        run = runs.get(key)
        if run is None or mishap.created - run[-1].created > APART:
            run = runs[key] = []
            done.append(run)
        run.append(mishap)
    yield from done


def _some_of(change: Change, tally: Tally, count: int) -> str:
    if count == 1:
        return (
            "One of " + _all_of(change, tally) if tally.outbound else "One of the " + _all_of(change, tally)
        )
    return f"{count} of {_all_of(change, tally)}" if tally.outbound else f"{count} {_all_of(change, tally)}"


def _all_of(change: Change, tally: Tally) -> str:
    which = len(change.systems) > 1
    if tally.outbound:
        return f"our messages{f' from {tally.system.name}' if which else ''} to {tally.party.name}"
    return f"messages from {tally.party.name}{f' to {tally.system.name}' if which else ''}"


def _whose_mdn(tally: Tally) -> str:
    return (
        "the MDN does not verify here" if tally.outbound else f"our MDN does not verify at {tally.party.name}"
    )
