"""The vault seals with its first key, unseals with all of them, and shows none."""

from __future__ import annotations

import base64
import pickle

import pytest

from as2certs import pki
from tests.pki.sentences import error_message

OLD, NEW, FOREIGN = pki.new_vault_key(), pki.new_vault_key(), pki.new_vault_key()
SECRET = b"-----BEGIN PRIVATE KEY-----"


def test_what_was_sealed_is_unsealed() -> None:
    vault = pki.Vault([OLD])
    sealed = vault.seal(SECRET)
    assert SECRET not in sealed
    assert vault.unseal(sealed) == SECRET
    assert vault.unseal(memoryview(sealed).tobytes()) == SECRET


def test_the_first_key_seals_and_all_open() -> None:
    sealed = pki.Vault([OLD]).seal(SECRET)
    both = pki.Vault([NEW, OLD])
    assert both.unseal(sealed) == SECRET
    assert pki.Vault([NEW]).unseal(both.seal(SECRET)) == SECRET


def test_resealing_moves_to_the_first_key() -> None:
    resealed = pki.Vault([NEW, OLD]).reseal(pki.Vault([OLD]).seal(SECRET))
    assert pki.Vault([NEW]).unseal(resealed) == SECRET
    error_message(lambda: pki.Vault([OLD]).unseal(resealed), pki.VaultError)


def change_one_character(sealed: bytes) -> bytes:
    return sealed[:40] + (b"B" if sealed[40:41] == b"A" else b"A") + sealed[41:]


@pytest.mark.parametrize("damage", [lambda s: s[:-5], lambda s: b"x" + s, lambda s: b"", change_one_character])
def test_a_value_that_no_key_unseals_is_refused(damage: object) -> None:
    assert callable(damage)
    sealed = pki.Vault([FOREIGN]).seal(SECRET)
    for vault in (pki.Vault([OLD]), pki.Vault([FOREIGN])):
        broken = damage(sealed)
        message = error_message(lambda v=vault, b=broken: v.unseal(b), pki.VaultError)  # type: ignore[misc]
        assert "a key this installation does not have" in message
        error_message(lambda v=vault, b=broken: v.reseal(b), pki.VaultError)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], "has no key"),
        ([""], "Vault key 1 is empty"),
        ([OLD, "  "], "Vault key 2 is empty"),
        ([OLD, NEW[:-8]], "Vault key 2"),
        (
            [OLD, NEW, base64.urlsafe_b64encode(b"sixteen bytes ok").decode()],
            "Vault key 3 has 16 bytes instead of 32",
        ),
        (["pässword"], "Vault key 1 is not URL-safe base64"),
        (["hunter2!"], "Vault key 1 is not URL-safe base64"),
    ],
)
def test_an_invalid_key_is_named_by_its_position_and_never_shown(keys: list[str], expected: str) -> None:
    message = error_message(lambda: pki.Vault(keys), pki.VaultError)
    assert expected in message
    for key in keys:
        assert not key.strip() or key not in message


def test_keys_may_come_as_one_text_with_commas() -> None:
    assert pki.Vault(f"{NEW}, {OLD}\n").unseal(pki.Vault([OLD]).seal(SECRET)) == SECRET


def test_a_vault_shows_no_key() -> None:
    vault = pki.Vault([OLD, NEW])
    assert repr(vault) == "<Vault with 2 keys>"
    assert repr(pki.Vault([OLD])) == "<Vault with 1 key>"


def test_a_vault_can_not_be_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(pki.Vault([OLD]))


def test_new_keys_differ() -> None:
    assert len({pki.new_vault_key() for _ in range(20)}) == 20
