"""What people are told is true, in whatever order things happen: what pages and waiting mails say after each event."""

from __future__ import annotations

import pytest

from tests.rotations.statements.rules import violations
from tests.rotations.statements.story import KINDS, Event, Kind, play, random_events, shorten
from tests.samples import sample

pytestmark = pytest.mark.django_db

BY_NAME = {kind.name: kind for kind in KINDS}


def check_story(kind: Kind, events: list[Event]) -> None:
    """Play a story; fail with the shortest one that violates the same rule."""
    if not play(kind, events, violations)[0]:
        return
    shortest = shorten(kind, events, violations)
    found, _, happened = play(kind, shortest, violations)
    pytest.fail("\n".join([kind.name, *happened, "", *found, "", f"events = {shortest}"]))


@pytest.mark.parametrize("kind", sample(KINDS, 6), ids=lambda kind: kind.name)
def test_what_pages_and_mails_say_is_true(kind: Kind) -> None:
    check_story(kind, random_events(kind, 0, 15))


@pytest.mark.extended
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_pages_and_mails_say_is_true_in_longer_stories(kind: Kind, seed: int) -> None:
    check_story(kind, random_events(kind, seed, 45))


#: Short stories that find a fault where a rule is broken: the kind, and the names of the events with their seeds.
FOUND: dict[str, tuple[str, list[Event]]] = {
    "an answer before the key is loaded": (
        "own, both roles, by hand",
        [("approve", 0), ("record_answer", 1), ("record_answer", 2), ("announce", 1), ("announce", 2)],
    ),
    "an answer without the agreement to the window": (
        "own, both roles, one partner with one slot",
        [("approve", 0), ("do_our_step", 0), ("record_answer", 2)],
    ),
    "messages are not held when the window opens": (
        "partner, both roles, one slot here",
        [
            ("approve", 0),
            ("do_our_step", 0),
            ("agree", 0),
            ("wait_until_the_window", 0),
            ("write_reminders", 0),
            ("wait_a_little", 0),
            ("write_reminders", 0),
        ],
    ),
    "messages are held late, and the partner is asked to wait until then": (
        "own, both roles, one partner with one slot",
        [
            ("approve", 0),
            ("do_our_step", 0),
            *[("announce", seed) for seed in range(2)],
            *[("record_answer", seed) for seed in range(4)],
            *[("agree", seed) for seed in range(4)],
            ("wait_until_the_window", 0),
            ("write_reminders", 0),
            *[("do_our_step", seed) for seed in range(3)],
            ("write_reminders", 1),
        ],
    ),
    "a partner said that it switched, and only our own test is not recorded": (
        "partner, both roles",
        [
            ("approve", 0),
            *[("do_our_step", seed) for seed in range(2)],
            ("announce", 0),
            ("record_answer", 1),
            ("wait_until_the_window", 0),
            ("do_our_step", 2),
            *[("report_switched", seed) for seed in range(3)],
            ("wait_until_the_grace_is_over", 0),
            ("write_reminders", 0),
        ],
    ),
    "an emergency ends what a partner objects to": (
        "own, both roles, by hand",
        [
            ("approve", 0),
            ("propose", 0),
            ("declare_emergency", 0),
            ("write_reminders", 0),
            ("do_our_step", 0),
            ("write_reminders", 1),
        ],
    ),
    "a partner proposes another time, and the window is extended at its end": (
        "own, moment not known",
        [
            ("approve", 0),
            ("run_due_steps", 0),
            *[("announce", seed) for seed in range(2)],
            *[("record_answer", seed) for seed in range(4)],
            ("propose", 0),
            ("wait_until_the_window_ends", 0),
            ("run_due_steps", 1),
            ("write_reminders", 0),
        ],
    ),
}


@pytest.mark.parametrize("story", FOUND)
def test_in_a_short_story_too(story: str) -> None:
    kind, events = FOUND[story]
    check_story(BY_NAME[kind], events)
