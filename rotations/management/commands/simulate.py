"""Simulate the plans of all changes, and count what becomes of the messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rotations.planning.change import PlannedStep
from rotations.planning.simulation.combinations import (
    CHANGE_NAMES,
    ENDS,
    STARTS,
    ChangeTiming,
    Combination,
    scheduled_combinations,
    steps_and_behaviour,
    switches_at_once,
    unscheduled_combinations,
)
from rotations.planning.simulation.run import SimulationResult, simulate
from rotations.planning.simulation.traffic import Traffic

TABLE_TRAFFIC = Traffic(every=timedelta(minutes=1))
HEADINGS = ("change", "what changes", "we hold", "they hold", "we sign", "readers", "made")
COUNT_HEADINGS = ("messages", "rejected", "lost", "twice", "queued")
COLUMN_WIDTHS = (6, 28, 8, 9, 11, 12, 10)
WINDOW_SECONDS = int((ENDS - STARTS).total_seconds())


class Command(BaseCommand):
    help = (
        "Carry out the changes A to F in all combinations between simulated AS2 stations, in an emergency too and in "
        "windows without a fixed moment, with a message a minute each way, and count what is rejected, lost or "
        "delivered twice. Ends with 1 where the law of rotations is broken."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--skew",
            type=int,
            default=120,
            metavar="SECONDS",
            help=(
                "where both sides switch at once: how long after us the partner does, or with a negative number we "
                f"after the partner (default 120; the window lasts {WINDOW_SECONDS})"
            ),
        )
        parser.add_argument(
            "--seed",
            type=int,
            metavar="N",
            help="draw when steps are done and messages are sent, and kill workers; the same N draws the same",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        skew, seed = timedelta(seconds=options["skew"]), options["seed"]
        self.stdout.write(_format_row(HEADINGS, COUNT_HEADINGS))
        combinations = [*scheduled_combinations(), *unscheduled_combinations()]
        broken = 0
        for combination in combinations:
            broken += not self.show(combination, skew, seed)
        if broken:
            raise CommandError(f"The law is broken in {broken} of {len(combinations)} combinations.")
        self.stdout.write(
            f"{len(combinations)} combinations: the law holds in each. Where both certificates fit side by side, "
            "nothing fails; where both sides switch at once, only what is under way between the two switches; in an "
            "emergency, what is sent before the other side has followed."
        )

    def show(self, combination: Combination, skew: timedelta, seed: int | None) -> bool:
        """Simulate one combination and write its line; return whether the rules were kept."""
        steps, behaviour = steps_and_behaviour(combination, skew, seed)
        result = simulate(combination.change, steps, behaviour, traffic=replace(TABLE_TRAFFIC, seed=seed or 0))
        self.stdout.write(
            _format_row(_describe_combination(combination, _reader_rule(combination, steps)), _format_counts(result))
        )
        for sentence in result.violations:
            self.stderr.write(f"       {sentence}")
        return not result.violations


def _reader_rule(combination: Combination, steps: tuple[PlannedStep, ...]) -> str:
    if combination.moment is ChangeTiming.EMERGENCY:
        return "let go"
    return "swap at once" if switches_at_once(steps) else "hold both"


def _describe_combination(combination: Combination, readers: str) -> tuple[str, ...]:
    per_partner = {None: "-", False: "for all", True: "per partner"}[combination.per_partner]
    return (
        combination.letter,
        CHANGE_NAMES[combination.letter],
        combination.ours,
        combination.theirs,
        per_partner,
        readers,
        combination.moment,
    )


def _format_counts(result: SimulationResult) -> tuple[str, ...]:
    counts = (result.messages, result.rejected, result.lost, result.twice, result.waited)
    return tuple(str(count) for count in counts)


def _format_row(words: tuple[str, ...], numbers: tuple[str, ...]) -> str:
    left = (word.ljust(width) for word, width in zip(words, COLUMN_WIDTHS, strict=True))
    right = (number.rjust(len(heading)) for number, heading in zip(numbers, COUNT_HEADINGS, strict=True))
    return "  ".join((*left, *right))
