"""From two certificates on disk to changes applied at the agreed moment: told once on each kind of installation.

The stories take two minutes each, most of it waiting for a window to open. They are told one after the other: two
browsers and two installations at once left a machine with two cores no time to keep an appointment.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from tests.e2e import openssl
from tests.e2e.story import FILE_PASSWORD, Change, Story, Told, settle
from tests.servers import MailServer
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.openssl, pytest.mark.processes]

KINDS = [
    "embedded",
    pytest.param("servers", marks=[pytest.mark.postgres, pytest.mark.redis, pytest.mark.extended]),
]


@pytest.fixture(scope="module")
def post_office() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, post_office: MailServer
) -> Iterator[dict[str, Future[Told]]]:
    """Begin the stories that the chosen tests are about."""
    with ExitStack() as ends, ThreadPoolExecutor(max_workers=1) as tellers:
        told = {}
        for kind in sorted(_wanted(request)):
            folder = tmp_path_factory.mktemp(kind)
            stack = Stack(folder / "var")
            if kind == "servers":
                postgres, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_server")
                stack = Stack(folder / "var", postgres.new_database(), redis.url, email_url=post_office.url)
            ends.callback(stack.kill)
            told[kind] = tellers.submit(_tell, stack, folder, "kim@example.com" if kind == "servers" else "")
        yield told


def _wanted(request: pytest.FixtureRequest) -> set[str]:
    return {
        str(item.callspec.params["kind"])
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and not item.get_closest_marker("skip")
    }


def _tell(stack: Stack, papers: Path, address: str) -> Told:
    stack.prepare()
    story = Story(stack, papers, address=address)
    stack.start()
    return settle(stack, story.tell())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def told(stories: dict[str, Future[Told]], kind: str) -> Told:
    """The story as it went."""
    if stories[kind].exception():
        pytest.fail("The story did not get to its end: see the first test.", pytrace=False)
    return stories[kind].result()


def test_a_new_user_gets_from_an_empty_installation_to_two_changes_made(
    stories: dict[str, Future[Told]], kind: str
) -> None:
    assert stories[kind].result().ours.seen_at is not None


# The reminder.


def test_the_reminder_says_that_the_certificate_expires_in_20_days(told: Told) -> None:
    # Counted by the calendar: past midnight it is a day less.
    heading, _, text = told.reminder.partition("\n")
    assert re.match(r"Acme production: certificate expires in (20|19) days, \d+ \w+ 20\d\d", heading)
    assert re.search(r"Acme production \(our station, sign \+ decrypt\)\s+expires in (20|19) days", text)
    assert "No rotation is set up." in text
    assert "/rotations/new/?identity=" in text


def test_with_a_mail_server_the_same_mails_arrive_there(told: Told, kind: str, post_office: MailServer) -> None:
    arrived = [message for message in post_office.messages if message["To"] and told.address in message["To"]]
    if kind == "embedded":
        assert arrived == []
        return
    subjects = [str(message["Subject"]) for message in arrived]
    assert sum("certificate expires in" in subject for subject in subjects) == 1
    assert sum("Acme production: certificate changed" in subject for subject in subjects) == 1
    assert sum("Northwind: certificate changed" in subject for subject in subjects) == 1
    assert all({p.get_content_type() for p in m.walk()} >= {"text/plain", "text/html"} for m in arrived)


# Before the moment.


def test_before_the_moment_our_new_key_decrypts_beside_the_old_one(told: Told) -> None:
    ours = told.ours
    assert _seconds_before(ours) > 0
    assert ours.staged == {
        "decrypt/current": ours.new,
        "decrypt/previous": ours.old,
        "sign/current": ours.old,
    }
    assert ours.before == "waiting"


def test_before_the_moment_the_partners_new_certificate_is_accepted_and_not_yet_used(told: Told) -> None:
    theirs = told.theirs
    assert _seconds_before(theirs) > 0
    assert theirs.staged == {
        "encrypt/current": theirs.old,
        "verify/current": theirs.new,
        "verify/previous": theirs.old,
    }
    assert theirs.before == "waiting"


def _seconds_before(change: Change) -> float:
    assert change.staged_at is not None
    return (change.starts - change.staged_at).total_seconds()


# At the moment.


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_page_shows_the_change_at_its_moment_without_being_loaded_again(told: Told, side: str) -> None:
    change: Change = getattr(told, side)
    assert change.starts.tzinfo is not None
    assert change.starts.tzname() in ("CST", "CDT")
    assert change.seen_at is not None
    assert timedelta(0) <= change.seen_at - change.starts < timedelta(seconds=30)
    assert change.loads == 0


# Afterwards.


def test_the_directory_holds_the_new_certificate_and_key_and_the_old_ones_beside_them(told: Told) -> None:
    ours = told.ours
    assert ours.held == {
        "decrypt/current": ours.new,
        "decrypt/previous": ours.old,
        "sign/current": ours.new,
        "sign/previous": ours.old,
    }
    for place in ours.held:
        at = told.stations / "own" / "ACME-PROD" / place
        assert openssl.belong_together(at / "cert.pem", at / "key.pem")
        assert (at / "key.pem").stat().st_mode & 0o777 == 0o600
    uploaded = openssl.openssl("rsa", "-noout", "-modulus", "-in", told.uploaded.key)
    kept = told.stations / "own" / "ACME-PROD" / "sign" / "previous" / "key.pem"
    assert openssl.openssl("rsa", "-noout", "-modulus", "-in", kept) == uploaded


def test_the_directory_holds_the_partners_certificates_and_no_key(told: Told) -> None:
    theirs = told.theirs
    assert theirs.held == {
        "encrypt/current": theirs.new,
        "encrypt/previous": theirs.old,
        "verify/current": theirs.new,
        "verify/previous": theirs.old,
    }
    assert not [file for file in (told.stations / "partners").rglob("*") if "PRIVATE" in _text(file)]


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


def test_the_history_says_which_certificate_served_which_role_when(told: Told) -> None:
    for change, writer, reader in ((told.ours, "sign", "decrypt"), (told.theirs, "encrypt", "verify")):
        old, new = _short(change.old), _short(change.new)
        moment = re.escape(f"{change.starts.astimezone(UTC):%a %-d %b %Y, %H:%M} UTC")
        when = r"\w{3} \d+ \w{3} 20\d\d, \d\d:\d\d UTC"
        assert re.search(f"^{writer}: {old}: {when} to {moment}; {new}: {moment} to now$", change.history, re.M)
        assert re.search(f"^{reader}: {old}: {when} to now; {new}: {when} to now$", change.history, re.M)


def _short(fingerprint: str) -> str:
    return re.escape(f"{fingerprint[:5]}:…:{fingerprint[-2:]}")


def test_the_trail_says_who_did_what(told: Told) -> None:
    on_our_rotation = (
        "admin set up the rotation",
        "admin approved the rotation",
        "“Anna at Fabrikam gave the fingerprint, which matches”",
        "“Dana at Northwind said so”",
        "AS2 Certs began to apply the rotation",
        "AS2 Certs finished applying the rotation",
    )
    on_theirs = (
        "“Dana read out the fingerprint on the telephone, which matches”",
        "AS2 Certs finished applying",
    )
    elsewhere = (
        "admin created the identity · Acme production",
        "admin created the partner · Northwind",
        "admin created the partnership · Acme production ↔ Fabrikam",
        "admin asked for a new key",
        "AS2 Certs for admin generated the key",
        "admin put the certificate into service",
    )
    for trail, words in (
        (told.ours.trail, on_our_rotation),
        (told.theirs.trail, on_theirs),
        (told.whole_trail, elsewhere),
    ):
        said = re.sub(r"\s+", " ", trail)
        assert [w for w in words if w not in said] == []


def test_the_page_of_the_mail_says_that_the_change_was_made(told: Told) -> None:
    for mail, holder, change in zip(
        told.applied, ("Acme production", "Northwind"), (told.ours, told.theirs), strict=True
    ):
        when = f"{change.starts.astimezone(UTC):%a %-d %b %Y, %H:%M} UTC"
        assert mail.startswith(f"{holder}: certificate changed, {when}")
        assert f"{holder} has changed to its new certificate" in re.sub(r"\s+", " ", mail)


# Files.


def test_openssl_reads_the_public_part_in_every_form(told: Told, tmp_path: Path) -> None:
    assert set(told.downloads) == {"pem", "cer", "p7b", "zip"}
    for suffix, file in told.downloads.items():
        assert file.suffix == f".{suffix}"
        assert b"PRIVATE KEY" not in file.read_bytes()
    assert {openssl.fingerprint(told.downloads[s]) for s in ("pem", "cer", "p7b")} == {told.ours.new}
    with zipfile.ZipFile(told.downloads["zip"]) as files:
        files.extractall(tmp_path)
    inside = {file.suffix: file for file in tmp_path.rglob("*") if file.is_file()}
    assert {openssl.fingerprint(inside[s]) for s in (".pem", ".cer", ".p7b")} == {told.ours.new}
    assert told.ours.new in inside[".txt"].read_text()


def test_openssl_opens_the_private_part_with_the_password_that_was_given(told: Told, tmp_path: Path) -> None:
    assert told.private.suffix == ".p12"
    for part, options in (("cert.pem", ("-nokeys", "-clcerts")), ("key.pem", ("-nocerts", "-nodes"))):
        out = openssl.openssl("pkcs12", "-in", told.private, "-passin", f"pass:{FILE_PASSWORD}", *options)
        (tmp_path / part).write_text(out)
    assert openssl.fingerprint(tmp_path / "cert.pem") == told.ours.new
    assert openssl.belong_together(tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(RuntimeError, match="pkcs12"):
        openssl.openssl("pkcs12", "-in", told.private, "-passin", "pass:another", "-nodes")


def test_the_trail_tells_of_the_private_key_that_left_and_why(told: Told) -> None:
    said = re.sub(r"\s+", " ", told.whole_trail)
    assert re.search(r"admin took the private key out · ACME-PROD \(.{10}\) “The standby machine gets it too”", said)


# Behind the pages.


def test_no_script_failed_and_nothing_was_asked_for_elsewhere(told: Told) -> None:
    assert told.noticed == []


def test_no_process_complained(told: Told) -> None:
    assert told.complaints == []


def test_each_change_was_made_once_at_its_moment_and_told_once(told: Told) -> None:
    assert told.findings.wrong == []
