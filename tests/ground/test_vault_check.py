"""A vault that can't unseal the stored keys prevents the start."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from as2certs.pki.vault import new_vault_key
from tests.stack import Stack

SEAL_A_KEY = """
from as2certs import pki
from as2certs.clock import database_now
from identities.certificates import private_keys
from identities.models import Identity
identity = Identity.objects.create(name="ACME-PROD", as2_id="ACME-PROD", environment="production")
private_keys.seal(identity, pki.generate_key(2048), now=database_now())
print(private_keys.count_unreadable(limit=10)[0])
"""
COUNT_UNREADABLE = """
from identities.certificates import private_keys
print(private_keys.count_unreadable(limit=10)[0])
"""


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    """An installation in which a private key is sealed."""
    made = make_stack()
    assert made.python(SEAL_A_KEY) == 0
    return made


def test_a_lost_vault_key_is_reported_before_the_start(stack: Stack) -> None:
    (stack.folder / "vault_keys").write_text(new_vault_key())
    with pytest.raises(RuntimeError, match="1 of 1 stored private keys can't be opened with AS2CERTS_VAULT_KEYS"):
        stack.manage("make_ready")
    with pytest.raises(RuntimeError, match="1 of 1 stored private keys can't be opened"):
        stack.start("web")


def test_a_new_vault_key_before_the_old_one_opens_everything(stack: Stack) -> None:
    old = (stack.folder / "vault_keys").read_text()
    (stack.folder / "vault_keys").write_text(f"{new_vault_key()},{old}")
    stack.start("web")
    assert stack.get("/healthz")[0] == 200


@pytest.mark.extended
def test_after_resealing_the_old_key_is_not_needed_any_more(stack: Stack) -> None:
    old, new = (stack.folder / "vault_keys").read_text(), new_vault_key()
    (stack.folder / "vault_keys").write_text(f"{new},{old}")
    stack.manage("reseal_keys")
    (stack.folder / "vault_keys").write_text(new)
    stack.manage("make_ready")
    assert stack.python(COUNT_UNREADABLE) == 0
