"""Only a command removes the oldest entries, and records that; the rest can still be verified."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from as2certs.audit import chain as chained
from as2certs.audit import sealing, truncation
from as2certs.audit.models import GENESIS_HASH, Chain, Entry, Subject
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from partners.models import Partner
from tests.audit.conftest import LONG_AGO, add_entries, findings, is_intact, run_verify_audit
from tests.trail import tamper

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

DAY = "--before=2021-01-01"


@pytest.fixture
def trail(partner: Partner) -> Partner:
    """Five old entries and two of today."""
    add_entries(partner, 5, now=LONG_AGO)
    add_entries(partner, 2)
    sealing.seal()
    return partner


def cut(*arguments: str) -> str:
    out = StringIO()
    call_command("cut_audit", *arguments, stdout=out)
    return out.getvalue()


def positions() -> list[int | None]:
    return list(Entry.objects.sealed().values_list("position", flat=True))


def test_older_entries_are_removed_and_that_is_recorded(trail: Partner) -> None:
    last = Entry.objects.get(position=5)
    said = cut(DAY, "--reason", " Kept for a year. ", "--commit")
    assert said == "5 entries, up to position 5, were removed.\n"
    assert positions() == [6, 7, 8]
    assert Subject.objects.count() == 3
    entry = Entry.objects.get(position=8)
    assert (entry.verb, entry.actor_name, entry.reason) == (
        "trail.cut",
        "manage.py cut_audit",
        "Kept for a year.",
    )
    assert entry.new == {"through": 5, "hash": last.hash, "entries": 5}
    lines = run_verify_audit()
    assert "Note: entries up to position 5 were removed by cut_audit." in lines
    assert "The trail is whole: 3 entries checked, from position 6 to 8." in lines


def test_without_commit_nothing_is_removed(trail: Partner) -> None:
    said = cut(DAY)
    assert said == "5 entries, up to position 5, would be removed. Nothing was done: add --commit.\n"
    assert positions() == [1, 2, 3, 4, 5, 6, 7]


def test_the_rest_is_still_protected(trail: Partner) -> None:
    cut(DAY, "--reason=x", "--commit")
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 6")
    assert [found.split(" (")[0] for found in findings()] == ["CHANGED: position 6"]


def test_the_first_entry_left_must_follow_the_last_one_removed(trail: Partner) -> None:
    cut(DAY, "--reason=x", "--commit")
    first = Entry.objects.get(position=6)
    tamper("DELETE FROM audit_subject WHERE entry_id = %s", first.pk)
    tamper("DELETE FROM audit_entry WHERE id = %s", first.pk)
    (found,) = findings()
    assert found.startswith("MISSING: position 6: an entry was removed before position 7 ")


def test_entries_can_be_removed_again_later(partner: Partner) -> None:
    add_entries(partner, 2, now=LONG_AGO)
    add_entries(partner, 2, now=LONG_AGO + timedelta(days=700))
    cut("--before=2021-01-01", "--reason=first", "--commit")
    with pytest.raises(CommandError, match="There is no entry from before 2021-01-01"):
        cut("--before=2021-01-01", "--reason=again", "--commit")
    cut("--before=2022-06-01", "--reason=second", "--commit")
    assert positions() == [5, 6]
    assert is_intact()


def test_a_noted_head_is_reported_as_gone_or_compared(trail: Partner) -> None:
    noted = [f"{e.position}:{e.hash}" for e in Entry.objects.filter(position__in=(3, 5, 7)).order_by("position")]
    cut(DAY, "--reason=x", "--commit")
    lines = run_verify_audit(*(word for head in noted for word in ("--head", head)))
    assert "Note: the end noted at position 3 can't be compared any more." in lines
    assert findings("--head", noted[1], "--head", noted[2]) == []
    assert len(findings("--head", f"5:{GENESIS_HASH}")) == 1


def test_the_archive_contains_the_removed_entries_and_can_be_verified(trail: Partner, tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    removed = chained.read_entries(Entry.objects.sealed().filter(position__lte=5))
    said = cut(DAY, "--reason=x", "--commit", "--archive", str(path))
    assert [json.loads(line) for line in path.read_text().splitlines()] == removed
    digest = sha256(path.read_bytes()).hexdigest()
    assert Entry.objects.get(verb="trail.cut").new["archive_sha256"] == digest
    assert digest in said
    assert path.stat().st_mode & 0o077 == 0
    lines = run_verify_audit("--file", str(path))
    assert "The trail is whole: 5 entries checked, from position 1 to 5." in lines
    assert f"It ends at 5:{removed[-1]['hash']}" in lines


def test_an_existing_archive_is_not_overwritten(trail: Partner, tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text("something else")
    with pytest.raises(CommandError, match="File exists"):
        cut(DAY, "--reason=x", "--commit", "--archive", str(path))
    assert path.read_text() == "something else"
    assert len(positions()) == 7


def test_a_younger_entry_keeps_all_later_ones(partner: Partner) -> None:
    add_entries(partner, 2, now=LONG_AGO)
    add_entries(partner)
    add_entries(partner, 2, now=LONG_AGO)
    assert "2 entries, up to position 2" in cut(DAY, "--reason=x")


def test_forged_entries_are_not_removed(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 3")
    with pytest.raises(CommandError, match=r"is evidence, so it stays\. CHANGED: position 3"):
        cut(DAY, "--reason=x", "--commit")
    assert len(positions()) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what is to be removed"),
        ([DAY, "--commit"], "Say why"),
        ([DAY, "--commit", "--reason", "  "], "Say why"),
        (["--before", "tomorrow"], "It should be a day such as 2025-12-31"),
        (["--before=2020-01-01"], "There is no entry from before 2020-01-01 00:00 UTC to be removed."),
        (["--before=9999-12-31"], "The last 30 days stay"),
    ],
)
def test_invalid_arguments_are_reported(trail: Partner, arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        cut(*arguments)
    assert len(positions()) == 7


@pytest.mark.parametrize(("days", "possible"), [(29.9, False), (30.1, True)])
def test_the_last_thirty_days_stay(partner: Partner, days: float, possible: bool) -> None:
    now = database_now()
    add_entries(partner, now=LONG_AGO)
    sealing.seal()
    before = now - timedelta(days=days)
    if possible:
        assert truncation.find_end(before, now=now).position == 1
    else:
        with pytest.raises(truncation.TruncationRefused, match="The last 30 days stay"):
            truncation.find_end(before, now=now)


def test_an_interrupted_removal_can_be_finished(trail: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> int:
        raise OSError("the power failed")

    with monkeypatch.context() as patch:
        patch.setattr(truncation, "delete_cut_entries", crash)
        with pytest.raises(CommandError, match="the power failed"):
            cut(DAY, "--reason=x", "--commit")
    assert positions() == [1, 2, 3, 4, 5, 6, 7]
    assert is_intact()
    assert "Note: 5 of them are still there. Run cut_audit with --finish." in run_verify_audit()
    assert cut("--finish") == "5 entries were removed.\n"
    assert positions() == [6, 7, 8]
    assert is_intact()
    assert cut("--finish") == "0 entries were removed.\n"


def test_the_second_of_two_removals_finds_nothing(trail: Partner) -> None:
    end = truncation.find_end(LONG_AGO + timedelta(days=1), now=database_now())
    who = {"by": Actor.command("cut_audit"), "now": database_now(), "reason": "x"}
    assert truncation.cut_trail(end, **who) == 5  # type: ignore[arg-type]
    with pytest.raises(truncation.TruncationRefused, match="Somebody else has just removed these"):
        truncation.cut_trail(end, **who)  # type: ignore[arg-type]
    assert Entry.objects.filter(verb="trail.cut").count() == 1


def test_many_entries_are_removed_in_batches(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truncation, "BATCH_SIZE", 2)
    add_entries(partner, 7, now=LONG_AGO)
    cut(DAY, "--reason=x", "--commit")
    assert positions() == [8]
    assert is_intact()


def test_a_repaired_head_keeps_the_cut(trail: Partner) -> None:
    cut(DAY, "--reason=x", "--commit")
    tamper("DELETE FROM audit_chain")
    add_entries(trail)
    sealing.seal()
    assert (Chain.objects.get().cut_position, Chain.objects.get().position) == (5, 10)
    (found,) = findings()
    assert found.startswith("BROKEN: position 10 ")
