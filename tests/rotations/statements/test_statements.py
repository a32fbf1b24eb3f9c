"""What people are told is true, in whatever order things happen: what pages and waiting mails say after each event."""

from __future__ import annotations

import pytest

from tests.rotations.statements.rules import violations
from tests.rotations.statements.story import KINDS, Kind, play, random_events, shorten

pytestmark = pytest.mark.django_db

LENGTH = 45


def check_story(kind: Kind, seed: object) -> None:
    """Play a random story; fail with the shortest one that violates the same rule."""
    events = random_events(seed, LENGTH)
    if not play(kind, events, violations)[0]:
        return
    shortest = shorten(kind, events, violations)
    found, _, happened = play(kind, shortest, violations)
    pytest.fail("\n".join([f"{kind.name}, seed {seed}", *happened, "", *found, "", f"events = {shortest}"]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_pages_and_mails_say_is_true(kind: Kind) -> None:
    check_story(kind, f"{kind.name}:0")
