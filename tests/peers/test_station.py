"""The stations themselves: what they accept, refuse and notice is what real servers were seen to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from as2certs.as2 import (
    ComposedMessage,
    Draft,
    Encryption,
    Headers,
    Mdn,
    ReceiptRequest,
    Signing,
    compose,
    read_mdn,
)
from tests.certificates import Pair, make_pair, rsa_key, sha256
from tests.peers.installations import FolderFiles, OpenAs2Files, StationProcess
from tests.peers.journal import Journal, read_journal
from tests.peers.station import Station, fingerprint
from tests.peers.stores import FolderStore, OpenAs2Store, StoreError, UnknownPartner
from tests.servers import wait_until

pytestmark = [
    pytest.mark.openssl,
    pytest.mark.skipif(shutil.which("keytool") is None, reason="needs Java’s keytool"),
]

OLD, NEW, UNKNOWN = (make_pair("ACME", serial=number, key=rsa_key(f"ACME {number}")) for number in (1, 2, 3))
THEIRS_OLD, THEIRS_NEW = (
    make_pair("NORTHWIND", serial=number, key=rsa_key(f"NORTHWIND {number}")) for number in (11, 12)
)
MAIN = {"ACME": "Acme-Old", "NORTHWIND": "northwind-old"}
KEYSTORE_SECONDS, PARTNERSHIPS_SECONDS = 300.0, 120.0


class Clock:
    """A clock that a test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def full_keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A keystore with two keys of ours and two certificates of the partner, as keytool writes it."""
    files = OpenAs2Files(tmp_path_factory.mktemp("keystore"))
    files.add_key("Acme-Old", OLD)
    files.add_key("acme-new", NEW)
    files.add_certificate("northwind-old", THEIRS_OLD[0])
    files.add_certificate("northwind-new", THEIRS_NEW[0])
    return files.keystore


@pytest.fixture
def files(tmp_path: Path, full_keystore: Path) -> OpenAs2Files:
    found = OpenAs2Files(tmp_path / "openas2")
    shutil.copy(full_keystore, found.keystore)
    found.write_partnerships("ACME", MAIN)
    for path in (found.keystore, found.partnerships):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(files: OpenAs2Files, clock: Clock) -> Callable[[], OpenAs2Store]:
    """Return what starts an OpenAS2 with the files as they are."""
    config = files.config(keystore_seconds=KEYSTORE_SECONDS, partnerships_seconds=PARTNERSHIPS_SECONDS)
    return lambda: OpenAs2Store("ACME", config, clock)


def edit(files: OpenAs2Files, old: str, new: str, *, mtime: int = 1_700_000_100) -> None:
    """Replace a text in partnerships.xml, which gets this mtime."""
    text = files.partnerships.read_text()
    assert old in text
    files.partnerships.write_text(text.replace(old, new))
    os.utime(files.partnerships, (mtime, mtime))


def certificates_of(*pairs: Pair) -> tuple[x509.Certificate, ...]:
    return tuple(pair[0] for pair in pairs)


# The files of OpenAS2.


def test_every_key_and_certificate_is_found_by_its_alias_in_lower_case(open_store: Callable[[], OpenAs2Store]) -> None:
    keystore = open_store().keystore.content
    assert {alias: sha256(one) for alias, one in keystore.certificates.items()} == {
        "acme-old": sha256(OLD[0]),
        "acme-new": sha256(NEW[0]),
        "northwind-old": sha256(THEIRS_OLD[0]),
        "northwind-new": sha256(THEIRS_NEW[0]),
    }
    assert set(keystore.keys) == {"acme-old", "acme-new"}
    assert keystore.keys["acme-new"].public_key() == NEW[0].public_key()


def test_the_main_alias_signs_and_the_fallback_only_reads(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store]
) -> None:
    edit(files, 'x509_alias="Acme-Old"', 'x509_alias="Acme-Old" x509_alias_fallback="acme-new"')
    store = open_store()
    incoming = store.incoming("NORTHWIND")
    assert store.outgoing("NORTHWIND").signing.certificate == OLD[0]
    assert incoming.mdn_signing.certificate == OLD[0]
    assert tuple(pair.certificate for pair in incoming.keys) == certificates_of(OLD, NEW)


def test_messages_are_verified_by_both_and_mdns_by_the_main_alias_only(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store]
) -> None:
    edit(files, 'x509_alias="northwind-old"', 'x509_alias="northwind-old" x509_alias_fallback="northwind-new"')
    store = open_store()
    assert store.incoming("NORTHWIND").signers == certificates_of(THEIRS_OLD, THEIRS_NEW)
    assert store.outgoing("NORTHWIND").mdn_signers == certificates_of(THEIRS_OLD)


def test_an_alias_of_a_sender_or_receiver_counts_for_its_partnership_alone(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store]
) -> None:
    edit(files, '<sender name="ACME"/>', '<sender name="ACME" x509_alias="acme-new"/>')
    store = open_store()
    assert store.outgoing("NORTHWIND").signing.certificate == NEW[0]
    assert store.incoming("NORTHWIND").mdn_signing.certificate == OLD[0]
    edit(files, '<receiver name="ACME"/>', '<receiver name="ACME" x509_alias="acme-new"/>')
    assert open_store().incoming("NORTHWIND").mdn_signing.certificate == NEW[0]


def test_each_file_is_looked_at_in_its_own_interval(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store], clock: Clock
) -> None:
    store = open_store()
    edit(files, "Acme-Old", "acme-new")
    clock.now += PARTNERSHIPS_SECONDS - 1
    assert store.outgoing("NORTHWIND").signing.certificate == OLD[0]
    clock.now += 1
    assert store.outgoing("NORTHWIND").signing.certificate == NEW[0]

    files.add_key("acme-new-2", UNKNOWN)
    edit(files, "acme-new", "acme-new-2", mtime=1_700_000_200)
    clock.now += PARTNERSHIPS_SECONDS
    with pytest.raises(StoreError, match="no certificate with the alias “acme-new-2”"):
        store.outgoing("NORTHWIND")
    clock.now += KEYSTORE_SECONDS - 2 * PARTNERSHIPS_SECONDS
    assert store.outgoing("NORTHWIND").signing.certificate == UNKNOWN[0]


def test_a_file_that_is_not_newer_is_never_read_again(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store], clock: Clock
) -> None:
    store = open_store()
    for mtime in (1_600_000_000, 1_700_000_000):
        edit(files, "<partnerships>", "<partnerships> ", mtime=mtime)
        edit(files, 'x509_alias="Acme-Old"', 'x509_alias="acme-new"', mtime=mtime)
        clock.now += PARTNERSHIPS_SECONDS
        assert store.outgoing("NORTHWIND").signing.certificate == OLD[0]
        edit(files, 'x509_alias="acme-new"', 'x509_alias="Acme-Old"', mtime=mtime)
    edit(files, 'x509_alias="Acme-Old"', 'x509_alias="acme-new"', mtime=1_700_000_001)
    clock.now += PARTNERSHIPS_SECONDS
    assert store.outgoing("NORTHWIND").signing.certificate == NEW[0]


@pytest.mark.parametrize("damage", ["truncated", "other password"])
def test_a_keystore_that_cannot_be_read_is_ignored_until_a_newer_one_can(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store], clock: Clock, damage: str
) -> None:
    store, good = open_store(), files.keystore.read_bytes()
    if damage == "truncated":
        files.keystore.write_bytes(good[: len(good) // 2])
    else:
        files.password_file.write_text("another")
    os.utime(files.keystore, (1_700_000_100, 1_700_000_100))
    clock.now += KEYSTORE_SECONDS
    assert store.outgoing("NORTHWIND").signing.certificate == OLD[0]
    assert store.keystore.complaint.startswith("as2_certs.p12 can’t be read")

    files.password_file.write_text("changeit")
    files.keystore.write_bytes(good)
    for mtime, is_read in ((1_700_000_050, False), (1_700_000_101, True)):
        os.utime(files.keystore, (mtime, mtime))
        clock.now += KEYSTORE_SECONDS
        store.outgoing("NORTHWIND")
        assert (store.keystore.complaint == "") is is_read


def test_partnerships_that_are_no_xml_are_ignored(
    files: OpenAs2Files, open_store: Callable[[], OpenAs2Store], clock: Clock
) -> None:
    store = open_store()
    edit(files, "</partnerships>", "")
    clock.now += PARTNERSHIPS_SECONDS
    assert store.outgoing("NORTHWIND").signing.certificate == OLD[0]
    assert "partnerships.xml can’t be read" in store.partnerships.complaint


def test_a_partnership_that_is_not_there_is_unknown(open_store: Callable[[], OpenAs2Store]) -> None:
    with pytest.raises(UnknownPartner):
        open_store().incoming("FABRIKAM")


# What a station answers.


@pytest.fixture
def folder(tmp_path: Path) -> FolderFiles:
    """The files of a station in folders, which accepts two of everything."""
    found = FolderFiles(tmp_path / "folder")
    found.sign_with(OLD)
    found.decrypt_with([OLD, NEW])
    found.verify("NORTHWIND", certificates_of(THEIRS_OLD, THEIRS_NEW))
    found.encrypt_to("NORTHWIND", THEIRS_OLD[0])
    return found


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def openas2(open_store: Callable[[], OpenAs2Store], notes: Path) -> Station:
    return Station("ACME", open_store(), Journal(notes))


@pytest.fixture
def holds_two(folder: FolderFiles, notes: Path) -> Station:
    return Station("ACME", FolderStore(folder.folder), Journal(notes))


def message(tag: str = "tag-1", *, signer: Pair = THEIRS_OLD, to: Pair = OLD, sender: str = "NORTHWIND") -> Any:
    return compose(
        Draft(
            sender=sender,
            recipient="ACME",
            message_id=f"<{tag}@northwind.example>",
            date=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
            payload=tag.encode(),
            signing=Signing(*signer),
            encryption=Encryption(to[0]),
            receipt=ReceiptRequest("edi@northwind.example"),
        )
    )


def answer(station: Station, sent: ComposedMessage) -> Mdn:
    status, headers, body = station.answer(sent.headers, sent.body)
    assert status == 200
    return read_mdn(headers, body)


def raw_disposition(mdn: Mdn) -> str:
    return mdn.fields.get("Disposition").partition("; ")[2]


def events(notes: Path, *kept: str) -> list[tuple[Any, ...]]:
    return [tuple(entry.get(name) for name in ("event", *kept)) for entry in read_journal(notes)]


@pytest.mark.parametrize("name", ["openas2", "holds_two"])
def test_a_good_message_is_stored_once_and_confirmed_by_a_signed_mdn(
    name: str, request: pytest.FixtureRequest, notes: Path
) -> None:
    station = request.getfixturevalue(name)
    sent = message()
    mdn = answer(station, sent)
    assert raw_disposition(mdn) == "processed"
    assert mdn.verify([OLD[0]]).is_expected
    assert mdn.mic is not None
    assert any(mic.matches(mdn.mic) for mic in sent.mics)
    stored = ("tag-1", fingerprint(THEIRS_OLD[0]), fingerprint(OLD[0]))
    assert events(notes, "tag", "signed_with", "encrypted_to") == [("stored", *stored)]
    answer(station, sent)
    assert events(notes, "tag") == [("stored", "tag-1"), ("repeated", "tag-1")]


def test_what_was_stored_before_a_restart_is_not_stored_again(holds_two: Station, notes: Path) -> None:
    answer(holds_two, message())
    restarted = Station("ACME", holds_two.store, Journal(notes))
    answer(restarted, message())
    assert events(notes, "tag") == [("stored", "tag-1"), ("repeated", "tag-1")]


@pytest.mark.parametrize("signer", [THEIRS_OLD, THEIRS_NEW], ids=["old", "new"])
@pytest.mark.parametrize("to", [OLD, NEW], ids=["old", "new"])
def test_a_station_in_folders_reads_with_two_of_everything(holds_two: Station, signer: Pair, to: Pair) -> None:
    assert raw_disposition(answer(holds_two, message(signer=signer, to=to))) == "processed"
    assert holds_two.store.outgoing("NORTHWIND").mdn_signers == certificates_of(THEIRS_OLD, THEIRS_NEW)


def test_folders_are_read_again_for_each_message(holds_two: Station, folder: FolderFiles) -> None:
    folder.decrypt_with([NEW])
    folder.sign_with(NEW)
    assert raw_disposition(answer(holds_two, message(to=OLD))) == "processed/error: decryption-failed"
    mdn = answer(holds_two, message(to=NEW))
    assert raw_disposition(mdn) == "processed"
    assert mdn.verify([NEW[0]]).is_expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openas2", "processed/Error:integrity-check-failed"),
        ("holds_two", "processed/error: authentication-failed"),
    ],
)
def test_a_signature_by_an_unknown_certificate_is_refused_in_the_words_of_the_product(
    name: str, words: str, request: pytest.FixtureRequest, notes: Path
) -> None:
    mdn = answer(request.getfixturevalue(name), message(signer=UNKNOWN))
    assert raw_disposition(mdn) == words
    assert mdn.mic is None
    assert [event for (event,) in events(notes)] == ["refused"]


def test_openas2_without_a_fallback_does_not_decrypt_what_is_encrypted_to_another_key(openas2: Station) -> None:
    mdn = answer(openas2, message(to=NEW))
    assert raw_disposition(mdn) == "processed/Error:decryption-failed"
    assert mdn.signed is not None


def test_openas2_answers_unknown_senders_with_a_bare_500_and_others_with_an_mdn(
    openas2: Station, holds_two: Station
) -> None:
    sent = message(sender="FABRIKAM")
    assert openas2.answer(sent.headers, sent.body) == (500, Headers(), b"")
    assert raw_disposition(answer(holds_two, sent)) == "processed/error: unknown-trading-partner"


def test_while_openas2_lacks_an_alias_it_refuses_every_message_unsigned_and_sends_none(
    files: OpenAs2Files, openas2: Station, clock: Clock, notes: Path
) -> None:
    edit(files, 'x509_alias="Acme-Old"', 'x509_alias="Acme-Old" x509_alias_fallback="acme-next"')
    clock.now += PARTNERSHIPS_SECONDS
    mdn = answer(openas2, message())
    assert raw_disposition(mdn) == "processed/Error:decryption-failed"
    assert mdn.signed is None
    openas2.send("NORTHWIND", "http://127.0.0.1:9/", "tag-2")
    assert events(notes, "verdict")[1:] == [("sending", None), ("outcome", "not-sent")]
    files.add_key("acme-next", UNKNOWN)
    clock.now += KEYSTORE_SECONDS
    assert raw_disposition(answer(openas2, message())) == "processed"


# As programs.


@pytest.mark.processes
def test_two_stations_send_each_other_a_message_at_each_interval(files: OpenAs2Files, tmp_path: Path) -> None:
    acme, northwind = StationProcess("ACME"), StationProcess("NORTHWIND")
    theirs = FolderFiles(tmp_path / "northwind")
    theirs.sign_with(THEIRS_OLD)
    theirs.decrypt_with([THEIRS_OLD])
    theirs.verify("ACME", certificates_of(OLD))
    theirs.encrypt_to("ACME", OLD[0])
    config = files.config(keystore_seconds=1, partnerships_seconds=1)
    acme.set_up(config, {"NORTHWIND": northwind.url}, seconds=0.2)
    northwind.set_up(theirs.config, {"ACME": acme.url}, seconds=0.2)
    try:
        for station in (acme, northwind):
            station.start()
        for station in (acme, northwind):
            station.begin()
        wait_until(lambda: all(_count(one, "stored") >= 3 for one in (acme, northwind)), seconds=20, what="messages")
        for station in (acme, northwind):
            station.fall_silent()
        for sender, receiver in ((acme, northwind), (northwind, acme)):
            sent = [entry["tag"] for entry in sender.entries() if entry["event"] == "sending"]
            assert [entry["verdict"] for entry in sender.entries() if "verdict" in entry] == ["accepted"] * len(sent)
            assert [entry["tag"] for entry in receiver.entries() if entry["event"] == "stored"] == sent
    finally:
        for station in (acme, northwind):
            station.close()


def _count(station: StationProcess, event: str) -> int:
    return sum(entry["event"] == event for entry in station.entries())
