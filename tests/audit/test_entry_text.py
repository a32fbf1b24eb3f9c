from __future__ import annotations

import re
from pathlib import Path

import pytest

from as2certs.audit.entry_text import VERB_TEXTS, ChangedValue, changed_values, verb_text
from as2certs.audit.filters import SUBJECT_NOUNS
from as2certs.audit.models import Entry
from rotations.planning.states import RotationAction

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("rotation.approve", "approved the rotation"),
        ("identity.archived", "archived the identity"),
        ("as2system.created", "created the AS2 system"),
        ("person.login_failed", "tried to log in, in vain"),
    ],
)
def test_a_verb_becomes_the_words_that_follow_a_name(verb: str, words: str) -> None:
    assert verb_text(verb) == words


def test_every_action_of_a_rotation_has_a_text() -> None:
    moves = {f"rotation.{action}" for action in RotationAction} - {"rotation.edit", "rotation.retry"}
    assert moves <= set(VERB_TEXTS)


def test_the_trail_can_be_filtered_by_the_noun_of_every_verb_that_is_recorded() -> None:
    nouns = set()
    for app in ("as2certs", "identities", "partners", "rotations"):
        for file in (ROOT / app).rglob("*.py"):
            nouns |= set(re.findall(r"AuditEvent\(\s*f?\"([a-z]+)\.", file.read_text(encoding="utf-8")))
    assert nouns
    assert nouns <= {noun for chosen in SUBJECT_NOUNS.values() for noun in chosen}


def entry(old: dict[str, object], new: dict[str, object]) -> list[ChangedValue]:
    return changed_values(Entry(old=old, new=new), "Europe/Berlin")


def test_changed_values_are_put_into_words() -> None:
    assert entry({"four_eyes": False}, {"four_eyes": True}) == [ChangedValue("four eyes", "no", "yes", True)]
    assert entry({"owners": []}, {"owners": ["Ada", "Bob"]}) == [ChangedValue("owners", "nothing", "Ada, Bob", True)]
    assert entry({}, {"state": "under_way"}) == [ChangedValue("state", "nothing", "under way", False)]


def test_an_unchanged_value_is_left_out() -> None:
    changes = entry({"state": "exchanging", "grace_days": 7}, {"state": "exchanging", "grace_days": 14})
    assert changes == [ChangedValue("grace days", "7", "14", True)]


def test_moments_are_on_the_readers_clock_and_fingerprints_are_short() -> None:
    (moment,) = entry({}, {"not_after": "2026-12-13T12:00:00+00:00"})
    assert moment.new == "Sun 13 Dec 2026, 13:00 CET"
    (exact,) = entry({}, {"until": "2026-12-13T12:00:07.123456+00:00"})
    assert exact.new == "Sun 13 Dec 2026, 13:00:07 CET"
    (print_,) = entry({}, {"sha256": "4a1f" + "0" * 58 + "9c"})
    assert print_.new.startswith("4A:1F")
    assert len(print_.new) < 20


def test_values_for_programs_are_left_out() -> None:
    assert entry({}, {"step": "stage:1", "title": "Load C2", "late": False}) == [
        ChangedValue("", "nothing", "Load C2", False)
    ]
    assert [s.name for s in entry({}, {"late": True})] == ["late"]
