"""Entries are sealed after their commit: each once, in order, and signed."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from as2certs.audit import chain as chained
from as2certs.audit import sealing, signing
from as2certs.audit.chain import BATCH_SIZE
from as2certs.audit.models import GENESIS_HASH, Chain, Entry
from as2certs.clock import database_now
from as2certs.pki.vault import new_vault_key
from partners.models import Partner
from tests.audit.conftest import add_entries, findings, is_intact
from tests.trail import tamper

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


def places() -> list[tuple[int, int | None]]:
    return list(Entry.objects.order_by("id").values_list("id", "position"))


def test_entries_get_consecutive_positions_and_linked_hashes(partner: Partner) -> None:
    entries = add_entries(partner, 3)
    assert sealing.seal() == 3
    rows = list(Entry.objects.sealed())
    assert [row.pk for row in rows] == [entry.pk for entry in entries]
    assert [row.position for row in rows] == [1, 2, 3]
    assert [row.previous for row in rows] == [GENESIS_HASH, rows[0].hash, rows[1].hash]
    chain = Chain.objects.get()
    assert (chain.position, chain.hash) == (3, rows[2].hash)
    assert rows[0].sealed_at is not None
    assert timedelta() <= database_now() - rows[0].sealed_at < timedelta(minutes=1)
    assert is_intact()


def test_nothing_to_seal_takes_one_query_and_no_lock(partner: Partner) -> None:
    add_entries(partner)
    sealing.seal()
    with CaptureQueriesContext(connection) as queries:
        assert sealing.seal() == 0
    assert len(queries) == 1


def test_entries_are_sealed_in_batches_up_to_a_limit(partner: Partner) -> None:
    add_entries(partner, BATCH_SIZE + 3)
    assert sealing.seal(most=BATCH_SIZE) == BATCH_SIZE
    assert sealing.seal(most=None) == 3
    assert [position for _, position in places()] == list(range(1, BATCH_SIZE + 4))
    assert is_intact()


def test_an_entry_committed_late_is_sealed_after_higher_ids(
    partner: Partner,
) -> None:
    early, late = add_entries(partner, 2)
    # As if its transaction were still open while the first pass ran.
    hidden = Entry.objects.filter(pk=early.pk).values().get()
    subjects = list(early.subjects.values_list("kind", "uid"))
    tamper("DELETE FROM audit_subject WHERE entry_id = %s", early.pk)
    tamper("DELETE FROM audit_entry WHERE id = %s", early.pk)
    sealing.seal()
    back = Entry.objects.create(**hidden)
    for kind, uid in subjects:
        back.subjects.create(kind=kind, uid=uid)
    sealing.seal()
    assert places() == [(early.pk, 2), (late.pk, 1)]
    assert is_intact()


def test_the_hash_covers_every_column_and_the_subjects() -> None:
    columns = {field.attname for field in Entry._meta.local_fields}
    assert columns == {*chained.ENTRY_COLUMNS, *chained.SEAL_COLUMNS}


def test_an_entry_is_serialized_alike_on_each_database(partner: Partner) -> None:
    partner.uid = "5f2f0ba2-5c3b-4d9c-9f40-1f3a8b9ad001"
    (entry,) = add_entries(partner)
    (entry_data,) = chained.read_entries(Entry.objects.all())
    entry_data |= {"id": 7, "position": 1, "previous": GENESIS_HASH, "at": "2026-11-23T12:00:00.000000Z"}
    assert entry.verb == entry_data["verb"]
    entry_data["sealed_at"] = "2026-11-23T12:00:03.250000Z"
    assert chained.to_json_line(
        {name: value for name, value in entry_data.items() if name not in chained.SEAL_COLUMNS}
    ) == (
        '{"actor_id":null,"actor_name":"Alice","address":"192.0.2.7","at":"2026-11-23T12:00:00.000000Z","id":7,'
        '"key":null,"new":{"at":null,"days":14,"holds":[],"late":false,"ratio":0.5,'
        '"time_zone":"Europe/Z\\u00fcrich"},"object_kind":"partners.partner","object_name":"Northwind",'
        '"object_uid":"5f2f0ba2-5c3b-4d9c-9f40-1f3a8b9ad001","old":{"holds":["a","b"],"time_zone":"UTC"},'
        '"position":1,"previous":"' + "0" * 64 + '","reason":"They said: \\u201cmoved\\u201d.\\nTwice.",'
        '"sealed_at":"2026-11-23T12:00:03.250000Z","source":"web",'
        '"subjects":[["partners.partner","5f2f0ba2-5c3b-4d9c-9f40-1f3a8b9ad001"]],"verb":"partner.changed"}'
    )
    assert chained.compute_hash(entry_data) == "f4baab50aff25144f4c36b87784109e53a3e5c34f25ba011f16d26782289b9e2"


def test_a_rolled_back_entry_leaves_no_gap(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    add_entries(partner, 2)

    def crash(*args: object, **kwargs: object) -> None:
        raise OSError("the power failed")

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "update_head", crash)
        with pytest.raises(OSError, match="the power failed"):
            sealing.seal()
    assert not Entry.objects.sealed().exists()
    assert sealing.seal() == 2
    assert is_intact()


def test_an_entry_that_vanishes_while_it_is_sealed_rolls_the_batch_back(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_entries(partner, 2)
    read = chained.read_entries
    monkeypatch.setattr(sealing, "read_entries", lambda entries: [*read(entries), read(entries)[0] | {"id": -1}])
    with pytest.raises(IntegrityError, match="3 entries were to be sealed, and 2 were"):
        sealing.seal()
    assert not Entry.objects.sealed().exists()


def test_the_new_head_is_logged(partner: Partner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "as2certs.audit")
    add_entries(partner, 2)
    sealing.seal()
    assert caplog.messages == [f"The trail is sealed up to {Chain.objects.get()}"]
    sealing.seal()
    assert len(caplog.messages) == 1


def test_a_new_vault_key_signs_and_the_old_one_can_be_removed(partner: Partner, settings: LazySettings) -> None:
    old, new = settings.AS2CERTS_VAULT_KEYS, new_vault_key()
    add_entries(partner)
    sealing.seal()
    settings.AS2CERTS_VAULT_KEYS = [new, *old]
    assert is_intact()
    add_entries(partner)
    sealing.seal()
    assert len(set(Entry.objects.values_list("signed_with", flat=True))) == 2
    assert is_intact()
    settings.AS2CERTS_VAULT_KEYS = [new]
    assert is_intact()
    add_entries(partner)
    assert is_intact()
    settings.AS2CERTS_VAULT_KEYS = old
    assert findings() != []


def test_a_vault_key_removed_too_early_is_recorded(partner: Partner, settings: LazySettings) -> None:
    add_entries(partner)
    sealing.seal()
    settings.AS2CERTS_VAULT_KEYS = [new_vault_key()]
    (found,) = findings()
    assert "signed with the key" in found
    add_entries(partner)
    sealing.seal()
    entry = Entry.objects.get(verb="trail.broken")
    assert "comes from none of AS2CERTS_VAULT_KEYS" in entry.reason
    (found,) = findings()
    assert found.startswith("BROKEN: position 3")


def test_a_signer_reveals_nothing_of_its_keys(settings: LazySettings) -> None:
    signer = signing.trail_signer()
    assert repr(signer) == f"<TrailSigner {signer.name}>"
    assert len(signer.name) == 16
    assert signer.name not in str(settings.AS2CERTS_VAULT_KEYS)
    with pytest.raises(TypeError, match="must not be pickled"):
        signer.__reduce__()


def test_a_signature_of_an_entry_is_not_valid_for_the_head(partner: Partner) -> None:
    add_entries(partner)
    sealing.seal()
    entry, chain = Entry.objects.get(), Chain.objects.get()
    assert entry.hash == chain.hash
    assert entry.signature != chain.signature
