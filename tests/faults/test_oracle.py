"""The oracle finds what it is there to find: each fault is planted, and each time it speaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db.models import F

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.models import IdentityService
from rotations import runner
from rotations.models import Rotation, Step
from tests.faults import companies
from tests.faults.oracle import Expected, look
from tests.faults.site import SCRIPT
from tests.samples import sample
from tests.trail import tamper

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def expected(tmp_path: Path, settings: LazySettings) -> Expected:
    """Three changes that were applied, the first one in a directory, 40 seconds after their moment."""
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    settings.AS2CERTS_HOOKS = {"reload": ["/bin/sh", str(SCRIPT), str(tmp_path)]}
    companies.many([20.0] * 3, directories=[0], ago=60)
    runner.apply_due(wait=False)
    return Expected(scheduled=3, hook_log=str(tmp_path / "log"))


def first_step() -> Step:
    return Step.objects.filter(act="cut_over").order_by("pk")[0]


def double_entry(key: str) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        entry = Entry.objects.filter(verb="step.done")[0]
        entry.pk, entry.key, entry._state.adding = None, key, True
        entry.save()

    return plant


def lost_entry(folder: Path) -> None:
    entry = Entry.objects.filter(verb="step.done")[0]
    tamper("DELETE FROM audit_subject WHERE entry_id = %s", entry.pk)
    tamper("DELETE FROM audit_entry WHERE id = %s", entry.pk)


def double_finish(folder: Path) -> None:
    entry = Entry.objects.filter(verb="rotation.finish")[0]
    entry.pk, entry._state.adding = None, True
    entry.save()


def lost_step(folder: Path) -> None:
    Step.objects.filter(pk=first_step().pk).update(state="waiting", done_at=None)


def failed_step(folder: Path) -> None:
    Step.objects.filter(pk=first_step().pk).update(state="failed")


def early_step(folder: Path) -> None:
    Step.objects.filter(pk=first_step().pk).update(done_at=F("earliest_at") - timedelta(microseconds=1))


def step_not_due(folder: Path) -> None:
    Step.objects.filter(pk=first_step().pk).update(earliest_at=F("earliest_at") + timedelta(days=1))


def unmarked(folder: Path) -> None:
    Step.objects.update(late=False)


def gap(folder: Path) -> None:
    IdentityService.objects.filter(role="sign", ends_at=None).update(
        starts_at=F("starts_at") + timedelta(microseconds=1)
    )


def double_writer(folder: Path) -> None:
    IdentityService.objects.filter(role="sign", ends_at__isnull=False).update(
        ends_at=F("ends_at") + timedelta(microseconds=1)
    )


def nobody_serves(folder: Path) -> None:
    IdentityService.objects.filter(role="sign", ends_at=None).update(ends_at=F("starts_at"))


def old_one_serves(folder: Path) -> None:
    IdentityService.objects.filter(role="decrypt", ends_at=None).delete()
    IdentityService.objects.filter(role="decrypt").update(ends_at=None)


def double_mail(folder: Path) -> None:
    message = Message.objects.filter(kind="applied")[0]
    event, _, reader = message.key.rpartition(":")
    message.pk, message.uid, message.message_id = None, Rotation().uid, "<again@example.com>"
    message.key, message._state.adding = f"{event}:again:{reader}", True
    message.save()


def lost_mail(folder: Path) -> None:
    Message.objects.filter(kind="applied")[0].delete()


def stray_mail(folder: Path) -> None:
    Message.objects.filter(kind="applied").update(to_address="mallory@example.com")


def role_folder(folder: Path) -> Path:
    return folder / "system-0" / "own" / "STATION-0" / "sign"


def old_in_directory(folder: Path) -> None:
    (role_folder(folder) / "current").unlink()
    (role_folder(folder) / "current").symlink_to((role_folder(folder) / "previous").readlink())


def nothing_in_directory(folder: Path) -> None:
    (role_folder(folder) / "current").unlink()


def wrong_key(folder: Path) -> None:
    old = (role_folder(folder) / "previous" / "key.pem").read_bytes()
    (role_folder(folder) / "current" / "key.pem").write_bytes(old)


def early_link(folder: Path) -> None:
    moment = (first_step().earliest_at or first_step().done_at).timestamp() - 1  # type: ignore[union-attr]
    os.utime(role_folder(folder) / "current", (moment, moment), follow_symlinks=False)


def second_hook(folder: Path) -> None:
    lines = (folder / "log").read_text()
    (folder / "log").write_text(lines * 2)


def no_hook(folder: Path) -> None:
    (folder / "log").write_text("")


def early_hook(folder: Path) -> None:
    moment = first_step().earliest_at
    assert moment is not None
    (folder / "log").write_text(
        "".join(f"{moment.timestamp() - 0.1} {first_step().uid} switch {word}\n" for word in ("begin", "end"))
    )


def stray_hook(folder: Path) -> None:
    with (folder / "log").open("a") as log:
        log.write("1800000000.0 another-step switch begin\n")


PLANTS: list[tuple[Callable[[Path], None], str]] = [
    (double_entry("again"), "2 times in the trail"),
    (lost_entry, "0 times in the trail"),
    (double_finish, "rotation.finish"),
    (lost_step, "'waiting': 1"),
    (failed_step, "failed without a reason"),
    (early_step, "early"),
    (step_not_due, "2 steps were scheduled, not 3"),
    (step_not_due, "in the trail, and was not scheduled"),
    (unmarked, "marked False"),
    (gap, "gap or a double"),
    (double_writer, "gap or a double"),
    (nobody_serves, "served by nothing"),
    (old_one_serves, "decrypt is served by"),
    (double_mail, "1 mails too many"),
    (lost_mail, "1 mails too few"),
    (stray_mail, "who is not concerned"),
    (old_in_directory, "sign holds"),
    (nothing_in_directory, "sign holds nothing"),
    (wrong_key, "a key that does not belong"),
    (early_link, "turned over"),
    (second_hook, "'begin': 2"),
    (no_hook, "ran {} times"),
    (early_hook, "had its hook begin"),
    (stray_hook, "another-step"),
]


def test_it_is_silent_when_all_is_well(expected: Expected) -> None:
    found = look(expected)
    assert found.wrong == []
    assert len(found.late) == 3
    assert len(found.late_hooks) == 1


@pytest.mark.parametrize(
    ("planted", "says"), sample([pytest.param(p, says, id=f"{p.__name__}-{says}") for p, says in PLANTS], 6)
)
def test_it_speaks_of_a_planted_fault(
    planted: Callable[[Path], None], says: str, expected: Expected, tmp_path: Path
) -> None:
    planted(tmp_path)
    assert [line for line in look(expected).wrong if says in line]


def test_it_speaks_when_nothing_ran_at_all(tmp_path: Path, settings: LazySettings) -> None:
    companies.many([20.0] * 3, ago=60)
    wrong = look(Expected(scheduled=3)).wrong
    assert "the steps are {'waiting': 3}, not {'done': 3}" in wrong
    assert look(Expected(scheduled=0)).wrong != []


def test_it_speaks_when_nobody_was_told_of_a_step_that_was_to_be_tried_again(expected: Expected) -> None:
    assert look(Expected(scheduled=3, retried=1, hook_log=expected.hook_log)).wrong != []


def test_it_speaks_when_something_failed_that_should_not_have(expected: Expected) -> None:
    assert look(Expected(scheduled=3, failed=1, hook_log=expected.hook_log)).wrong != []
