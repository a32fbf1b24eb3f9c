"""One message a second in each direction while the product changes certificates between real AS2 systems."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import sha256
from tests.faults.site import Site
from tests.faults.visitor import Visitor
from tests.peers.network import ACME, NORTHWIND, Network
from tests.servers import Postgres
from tests.stack import Stack

pytestmark = [
    pytest.mark.openssl,
    pytest.mark.skipif(shutil.which("keytool") is None, reason="needs Java’s keytool"),
]


@pytest.fixture
def site(moulds: Callable[[Postgres | None], Stack], tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "var")
    made.prepare(mould=moulds(None))
    yield made
    made.kill()


@pytest.fixture
def network(site: Site, tmp_path: Path) -> Iterator[Network]:
    """Our OpenAS2 and the partner that holds two of everything."""
    made = Network(tmp_path, site)
    yield made
    made.close()


def start_product(network: Network, **hooks: list[str]) -> Visitor:
    """Start the product with these hooks, and return somebody at its pages."""
    network.site.environment["AS2CERTS_HOOKS"] = json.dumps(hooks)
    network.site.start("web", "worker", "beat")
    return Visitor(network.site)


def test_our_certificate_changes_with_a_partner_that_holds_two_and_no_message_fails(network: Network) -> None:
    network.set_up("by_hook('openas2')")
    person = start_product(network, openas2=network.hook_argv())
    old, new = network.pairs[ACME]

    rotation = network.begin_rotation(person, ACME, starts_in=5)
    network.wait_for(rotation, "stage")
    network.northwind.verify(ACME, [old[0], new[0]])
    network.record_answer(person, rotation, NORTHWIND)
    network.northwind.encrypt_to(ACME, new[0])
    network.wait_for(rotation, "cut_over")
    network.wait_for_messages()
    found = network.judge()

    assert (found.wrong, found.announced) == ([], [])
    theirs = sha256(network.pairs[NORTHWIND][0][0])
    assert found.certificates[ACME, NORTHWIND] == [(sha256(old[0]), theirs), (sha256(new[0]), theirs)]
    assert found.certificates[NORTHWIND, ACME] == [(theirs, sha256(old[0])), (theirs, sha256(new[0]))]
