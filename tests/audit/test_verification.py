"""verify_audit reports every change made to the trail directly in the database."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from hashlib import sha256

import pytest
from django.db import connection

from as2certs.audit import chain as chained
from as2certs.audit import sealing, signing, triggers
from as2certs.audit.models import Chain, Entry, Subject
from as2certs.clock import database_now
from partners.models import Partner
from tests.audit.conftest import add_entries, findings, is_intact, run_verify_audit
from tests.trail import tamper, unguarded

pytestmark = pytest.mark.django_db


@pytest.fixture
def trail(partner: Partner) -> Partner:
    """Six entries at the positions 1 to 6."""
    add_entries(partner, 6)
    assert sealing.seal() == 6
    return partner


def at(position: int) -> Entry:
    return Entry.objects.get(position=position)


def hash_anew(first: int) -> None:
    """Compute the chain anew from a position on, as somebody can who has no key."""
    previous = at(first - 1).hash if first > 1 else "0" * 64
    for entry in Entry.objects.sealed().filter(position__gte=first):
        tamper("UPDATE audit_entry SET previous = %s WHERE id = %s", previous, entry.pk)
        (entry_data,) = chained.read_entries(Entry.objects.filter(pk=entry.pk))
        previous = chained.compute_hash(entry_data)
        tamper("UPDATE audit_entry SET hash = %s WHERE id = %s", previous, entry.pk)


def remove(*positions: int) -> None:
    for position in positions:
        entry = at(position)
        tamper("DELETE FROM audit_subject WHERE entry_id = %s", entry.pk)
        tamper("DELETE FROM audit_entry WHERE id = %s", entry.pk)


def add(position: int, *, like: int) -> None:
    """Add a sealed entry that is a copy of another, with the right hash and with a signature of another entry."""
    entry_data = Entry.objects.filter(position=like).values().get()
    entry_data |= {"id": 4711, "position": None, "reason": "made up"}
    with unguarded():
        Entry.objects.create(**entry_data)
        Subject.objects.create(entry_id=4711, kind="partners.partner", uid="x")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE audit_entry SET position = %s WHERE id = 4711", [position])


def test_an_untouched_trail_is_intact(trail: Partner) -> None:
    lines = run_verify_audit()
    assert lines[0] == "The trail is whole: 6 entries checked, from position 1 to 6."
    assert lines[1] == f"It ends at {Chain.objects.get()}"


def test_an_empty_trail_is_intact() -> None:
    assert run_verify_audit()[0] == "The trail is whole: 0 entries checked, from position 1 to 0."


def test_unsealed_entries_are_sealed_first(trail: Partner) -> None:
    add_entries(trail, 2)
    assert run_verify_audit()[0] == "The trail is whole: 8 entries checked, from position 1 to 8."


CHANGES = {
    "at": "'2026-01-01 00:00:00+00:00'",
    "sealed_at": "'2026-01-01 00:00:00+00:00'",
    "verb": "'partner.created'",
    "actor_id": "7",
    "actor_name": "'Bob'",
    "source": "'admin'",
    "address": "'192.0.2.8'",
    "object_kind": "'partners.contact'",
    "object_uid": "'x'",
    "object_name": "'Southwind'",
    "old": "'{}'",
    "new": """'{"days": 15}'""",
    "reason": "''",
    "key": "'step:x'",
    "previous": f"'{'0' * 64}'",
    "hash": f"'{'0' * 64}'",
    "id": "4711",
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_entry_alone_is_reported(trail: Partner, column: str) -> None:
    if column == "id":
        tamper("UPDATE audit_subject SET entry_id = 4711 WHERE entry_id = %s", at(3).pk)
    change = f"UPDATE audit_entry SET {column} = {CHANGES[column]} WHERE position = 3"  # noqa: S608  # constants
    assert tamper(change) == 1
    (found,) = findings()
    entry = at(3)
    assert found.startswith(f"CHANGED: position 3 (entry {entry.pk}, ")
    assert f"{entry.actor_name}: {entry.verb} {entry.object_name})" in found


def test_every_column_is_covered() -> None:
    assert set(CHANGES) == {*chained.ENTRY_COLUMNS, "hash"} - {"position"}


@pytest.mark.parametrize("column", ["signature", "signed_with"])
def test_a_changed_signature_is_found(trail: Partner, column: str) -> None:
    tamper(f"UPDATE audit_entry SET {column} = 'f00d' WHERE position = 3")  # noqa: S608  # a constant
    (found,) = findings()
    assert found.startswith("FORGED: position 3 ")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_subject SET uid = 'x' WHERE entry_id = %s",
        "UPDATE audit_subject SET kind = 'partners.contact' WHERE entry_id = %s",
        "DELETE FROM audit_subject WHERE entry_id = %s",
        "INSERT INTO audit_subject (entry_id, kind, uid) VALUES (%s, 'rotations.rotation', 'x')",
    ],
)
def test_changed_subjects_are_reported(trail: Partner, sql: str) -> None:
    assert tamper(sql, at(3).pk) == 1
    (found,) = findings()
    assert found.startswith("CHANGED: position 3 ")
    assert "or an object it speaks of, was changed" in found


def test_two_changed_entries_are_both_reported(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position IN (3, 4)")
    assert [found.split(" (")[0] for found in findings()] == ["CHANGED: position 3", "CHANGED: position 4"]


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ((1,), "MISSING: position 1: an entry was removed before position 2 "),
        ((3,), "MISSING: position 3: an entry was removed before position 4 "),
        ((3, 4), "MISSING: positions 3–4: 2 entries were removed before position 5 "),
        ((6,), "MISSING: position 6: an entry was removed at the end of the chain."),
        ((5, 6), "MISSING: positions 5–6: 2 entries were removed at the end of the chain."),
        ((1, 2, 3, 4, 5, 6), "MISSING: positions 1–6: 6 entries were removed at the end of the chain."),
    ],
)
def test_missing_entries_are_reported_by_position(trail: Partner, positions: tuple[int, ...], said: str) -> None:
    remove(*positions)
    (found,) = findings()
    assert found.startswith(said)
    # What comes afterwards does not cover it up.
    add_entries(trail)
    (found,) = findings()
    assert found.startswith(said.split(" at the end")[0])


def test_an_entry_after_a_gap_is_verified(trail: Partner) -> None:
    remove(3)
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position IN (4, 5)")
    assert [found.split(" ")[0] for found in findings()] == ["MISSING:", "CHANGED:", "CHANGED:"]


def test_a_replaced_entry_is_reported(trail: Partner) -> None:
    remove(3)
    add(3, like=2)
    hash_anew(3)
    assert [found.split(" (")[0] for found in findings()] == [
        f"FORGED: position {position}" for position in (3, 4, 5, 6)
    ]


def test_an_entry_added_at_the_end_is_reported(trail: Partner) -> None:
    add(7, like=6)
    hash_anew(7)
    assert [found.split(" (")[0] for found in findings()] == ["ADDED: position 7", "FORGED: position 7"]
    # It stays found after the trail went on behind it.
    add_entries(trail)
    sealing.seal()
    assert [found.split(" (")[0] for found in findings()] == ["FORGED: position 7", "BROKEN: position 9"]


def test_an_entry_added_without_a_seal_shows_when_it_was_sealed(trail: Partner) -> None:
    """Adding is what everybody with rights on the database may do; what is dated back stands out."""
    add_entries(trail, now=database_now() - timedelta(days=3))
    assert run_verify_audit()[0] == (
        "Note: 1 entries tell of a moment more than an hour away from when they were sealed, at position 7."
    )
    assert is_intact()


def test_moved_entries_are_reported_with_their_old_positions(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET position = 99 WHERE position = 2")
    tamper("UPDATE audit_entry SET position = 2 WHERE position = 5")
    tamper("UPDATE audit_entry SET position = 5 WHERE position = 99")
    first, second = findings()
    assert first.startswith("MOVED: position 2 ")
    assert first.endswith("stood at position 5.")
    assert second.startswith("MOVED: position 5 ")
    assert second.endswith("stood at position 2.")


def test_a_changed_entry_in_a_recomputed_chain_is_found_by_its_signature(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 3")
    hash_anew(3)
    tamper("UPDATE audit_chain SET hash = %s", at(6).hash)
    assert [found.split(" (")[0] for found in findings()] == [
        "FORGED: position 3",
        "FORGED: position 4",
        "FORGED: position 5",
        "FORGED: position 6",
        "BROKEN: what is said to be the end of the chain is not what was signed.",
    ]


def test_a_changed_entry_with_a_recomputed_hash_alone_is_reported(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 3")
    (entry_data,) = chained.read_entries(Entry.objects.filter(position=3))
    tamper("UPDATE audit_entry SET hash = %s WHERE position = 3", chained.compute_hash(entry_data))
    (found,) = findings()
    assert found.startswith("FORGED: position 3 ")


def test_a_signed_entry_that_does_not_follow_its_predecessor_is_reported(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 3")
    (entry_data,) = chained.read_entries(Entry.objects.filter(position=3))
    changed = chained.compute_hash(entry_data)
    signature = signing.trail_signer().sign(signing.entry_message(changed))
    tamper("UPDATE audit_entry SET hash = %s, signature = %s WHERE position = 3", changed, signature)
    (found,) = findings()
    assert found.startswith("CHANGED: position 4 ")
    assert found.endswith("does not follow on what is at position 3 now.")


def test_the_newest_entry_is_compared_with_the_head(trail: Partner) -> None:
    """Somebody who has the key of the vault, but not that of the end: it is the same one, so this is a bug of ours."""
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 6")
    (entry_data,) = chained.read_entries(Entry.objects.filter(position=6))
    signature = signing.trail_signer().sign(signing.entry_message(chained.compute_hash(entry_data)))
    tamper(
        "UPDATE audit_entry SET hash = %s, signature = %s WHERE position = 6",
        chained.compute_hash(entry_data),
        signature,
    )
    (found,) = findings()
    assert found.startswith("CHANGED: position 6 ")
    assert found.endswith("is not the entry with which the chain ended.")


def test_an_unknown_key_after_one_of_ours_is_reported(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x', signed_with = %s WHERE position >= 3", "0" * 16)
    hash_anew(3)
    assert [found.split(" (")[0] for found in findings()][:4] == [
        f"FORGED: position {position}" for position in (3, 4, 5, 6)
    ]


def test_a_chain_signed_by_an_unknown_key_has_no_signed_head(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x', signed_with = %s", "0" * 16)
    hash_anew(1)
    tamper("UPDATE audit_chain SET hash = %s", at(6).hash)
    (found,) = findings()
    assert found == "BROKEN: what is said to be the end of the chain is not what was signed."
    assert f"Note: 6 entries are signed with the key {'0' * 16}" in "\n".join(run_verify_audit())
    add_entries(trail)
    sealing.seal()
    assert findings()[-1].startswith("BROKEN: position 8 "), "the trail tells that its end was not signed"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_chain SET position = 5",
        "UPDATE audit_chain SET position = 9",
        "UPDATE audit_chain SET hash = 'f00d'",
        "UPDATE audit_chain SET signature = 'f00d'",
        "UPDATE audit_chain SET signed_with = 'f00d'",
        "UPDATE audit_chain SET signature = '', signed_with = ''",
        "DELETE FROM audit_chain",
    ],
)
def test_a_forged_head_is_reported_permanently(trail: Partner, sql: str) -> None:
    tamper(sql)
    assert any(found.startswith(("BROKEN", "ADDED")) for found in findings())
    add_entries(trail)
    sealing.seal()
    (found,) = findings()
    assert found.startswith("BROKEN: position 8 ")
    assert "trail.broken" in found


def test_removing_the_newest_entries_and_the_head_is_detected(trail: Partner) -> None:
    remove(5, 6)
    last = at(4)
    tamper("UPDATE audit_chain SET position = 4, hash = %s, signature = %s", last.hash, last.signature)
    assert findings() == ["BROKEN: what is said to be the end of the chain is not what was signed."]


def test_a_noted_head_reveals_a_restored_database(trail: Partner) -> None:
    """Whoever puts back the signed end of yesterday hides what came since; only what was noted outside tells."""
    old = Chain.objects.values().get()
    add_entries(trail, 2)
    sealing.seal()
    noted = str(Chain.objects.get())
    assert findings("--head", noted) == []
    remove(7, 8)
    tamper(
        "UPDATE audit_chain SET position = %s, hash = %s, signature = %s",
        old["position"],
        old["hash"],
        old["signature"],
    )
    assert is_intact()
    (found,) = findings("--head", noted)
    assert found == "MISSING: position 8: the chain ended there once, and is shorter now."
    add_entries(trail, 2)
    sealing.seal()
    assert is_intact()
    (found,) = findings("--head", noted)
    assert found.startswith("CHANGED: position 8: another entry was there")


def test_several_noted_heads_can_be_given(trail: Partner) -> None:
    first = str(Chain.objects.get())
    add_entries(trail)
    sealing.seal()
    assert findings("--head", first, "--head", str(Chain.objects.get())) == []
    assert len(findings("--head", f"3:{'0' * 64}", "--head", first)) == 1


@pytest.mark.parametrize("head", ["6", "6:abc", "0:" + "0" * 64, "-1:" + "0" * 64, "6:" + "G" * 64])
def test_an_invalid_noted_head_is_refused(trail: Partner, head: str) -> None:
    assert "It should be a position, a colon, and a hash of 64 hex digits." in run_verify_audit(f"--head={head}")[-1]


def test_a_cut_without_its_entry_is_reported_as_missing(trail: Partner) -> None:
    cut = at(2).hash
    remove(1, 2)
    tamper("UPDATE audit_chain SET cut_position = 2, cut_hash = %s", cut)
    assert [found.split(":")[0] for found in findings()] == ["BROKEN", "MISSING"]
    assert "positions 1–2: 2 entries were removed, and no entry of the trail tells" in findings()[1]


def test_missing_triggers_are_reported(trail: Partner) -> None:
    triggers.drop_triggers(connection)
    assert len(findings()) == len(triggers.missing_triggers(connection)) > 0
    triggers.create_triggers(connection)
    assert is_intact()


def test_verification_can_start_at_a_position(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 2")
    assert len(findings()) == 1
    assert run_verify_audit("--from", "4")[0] == "The trail is whole: 3 entries checked, from position 4 to 6."
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 5")
    assert len(findings("--from", "4")) == 1
    assert run_verify_audit("--from", "99") == ["There is no entry at position 98 to begin behind."]


def test_the_content_of_an_entry_cannot_forge_lines(trail: Partner) -> None:
    tamper("UPDATE audit_entry SET actor_name = %s WHERE position = 3", "x\n\x1b[2KThe trail is whole")
    (found,) = findings()
    assert "\x1b" not in found
    assert "x��[2KThe trail is whole" in found


@pytest.mark.extended
def test_memory_does_not_grow_with_the_trail(partner: Partner) -> None:
    def peak() -> int:
        tracemalloc.start()
        assert is_intact()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    def grow(count: int) -> None:
        (like,) = add_entries(partner)
        columns = {
            "at": like.at,
            "verb": "x",
            "actor_name": "Alice",
            "source": "web",
            "new": {"text": "x" * 1000},
        }
        Entry.objects.bulk_create(Entry(**columns) for _ in range(count))
        sealing.seal(most=None)

    grow(1500)
    few = peak()
    grow(4500)
    assert peak() < 1.5 * few


def test_the_fingerprint_of_a_key_is_not_its_hash() -> None:
    assert signing.key_fingerprint(b"k") != sha256(b"k").hexdigest()[:16]
