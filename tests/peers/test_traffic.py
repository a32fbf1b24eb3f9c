"""One message a second in each direction while the product changes certificates between real AS2 systems."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.certificates import sha256
from tests.faults.site import Site
from tests.faults.visitor import Visitor
from tests.peers.company import APPROVER
from tests.peers.network import ACME, FABRIKAM, HOOK_SECONDS, NORTHWIND, Network, Rotation
from tests.peers.oracle import Announced
from tests.servers import Postgres, wait_until
from tests.stack import Stack

pytestmark = [
    pytest.mark.openssl,
    pytest.mark.skipif(shutil.which("keytool") is None, reason="needs Java’s keytool"),
]

WRONG_HOOK = Path(__file__).with_name("wrong_hook.py")
#: How long the announced windows are.
WINDOW_SECONDS = 60


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


@pytest.fixture
def whole_network(site: Site, tmp_path: Path, pyas2_python: Path) -> Iterator[Network]:
    """The same, and the partner with django-pyas2, which holds one certificate for everything."""
    made = Network(tmp_path, site, pyas2_python)
    yield made
    made.close()


def start_product(network: Network, **hooks: list[str]) -> Visitor:
    """Start the product with these hooks, and return somebody at its pages."""
    network.site.environment["AS2CERTS_HOOKS"] = json.dumps(hooks)
    network.site.start("web", "worker", "beat")
    return Visitor(network.site, APPROVER, is_stored=True)


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
    assert network.states(rotation, "agree") == []  # no moment has to be agreed with a partner that holds two
    network.wait_for_messages()
    found = network.judge()

    assert (found.wrong, found.announced) == ([], [])
    theirs = sha256(network.pairs[NORTHWIND][0][0])
    assert found.certificates[ACME, NORTHWIND] == [(sha256(old[0]), theirs), (sha256(new[0]), theirs)]
    assert found.certificates[NORTHWIND, ACME] == [(theirs, sha256(old[0])), (theirs, sha256(new[0]))]


@pytest.mark.extended
def test_every_certificate_changes_and_messages_fail_in_the_announced_windows_only(whole_network: Network) -> None:
    network = whole_network
    network.set_up("by_hook('openas2')")
    person = start_product(network, openas2=network.hook_argv())
    announced = [
        change_ours(network, person),
        change_northwind(network, person),
        change_fabrikam(network, person),
    ]
    announced.append(go_back_to_our_old_one(network, person, announced[0][1]))
    found = network.judge([span for span, _ in announced])

    assert found.wrong == []
    ours, fabrikam, northwind = (
        [sha256(certificate) for certificate, _ in network.pairs[name]] for name in (ACME, FABRIKAM, NORTHWIND)
    )
    # Each side's own certificate, in the order in which it was used: ours changes, and goes back in the end.
    assert found.certificates[ACME, NORTHWIND] == [
        (ours[0], northwind[0]),
        (ours[1], northwind[0]),
        (ours[1], northwind[1]),
        (ours[0], northwind[1]),
    ]
    assert found.certificates[ACME, FABRIKAM] == [
        (ours[0], fabrikam[0]),
        (ours[1], fabrikam[0]),
        (ours[1], fabrikam[1]),
        (ours[0], fabrikam[1]),
    ]
    assert {signed_with for signed_with, _ in found.certificates[FABRIKAM, ACME]} == set(fabrikam)
    assert {signed_with for signed_with, _ in found.certificates[NORTHWIND, ACME]} == set(northwind)


@pytest.mark.extended
def test_each_partner_changes_at_its_own_moment_through_the_connector_to_openas2(whole_network: Network) -> None:
    network = whole_network
    network.set_up(network.describe_openas2())
    person = start_product(network)
    announced = [
        change_ours(network, person, apart=timedelta(seconds=30)),
        change_northwind(network, person),
        change_fabrikam(network, person),
    ]
    announced.append(go_back_to_our_old_one(network, person, announced[0][1]))
    found = network.judge([span for span, _ in announced])

    assert found.wrong == []
    ours, fabrikam, northwind = (
        [sha256(certificate) for certificate, _ in network.pairs[name]] for name in (ACME, FABRIKAM, NORTHWIND)
    )
    for partner, theirs in ((NORTHWIND, northwind), (FABRIKAM, fabrikam)):
        assert found.certificates[ACME, partner] == [
            (ours[0], theirs[0]),
            (ours[1], theirs[0]),
            (ours[1], theirs[1]),
            (ours[0], theirs[1]),
        ]
    moments = {partner: found.first_use[ACME, partner, ours[1]] for partner in (NORTHWIND, FABRIKAM)}
    assert moments[NORTHWIND] - moments[FABRIKAM] > timedelta(seconds=20), "one at its own moment after the other"


Change = tuple[Announced, Rotation]


def change_ours(network: Network, person: Visitor, apart: timedelta | None = None) -> Change:
    """Change our certificate: whoever holds two prepares, whoever holds one changes in the window with us.

    With `apart`, we change for the one that holds two so much later, in a window of its own.
    """
    old, new = network.pairs[ACME]
    rotation = network.begin_rotation(person, ACME, starts_in=60 if apart else 20, seconds=WINDOW_SECONDS)
    if apart:
        network.give_own_window(rotation, NORTHWIND, rotation.starts + apart, WINDOW_SECONDS)
    network.wait_for(rotation, "stage")
    network.northwind.verify(ACME, [old[0], new[0]])
    network.record_answer(person, rotation, NORTHWIND)
    network.northwind.encrypt_to(ACME, new[0])
    network.record_answer(person, rotation, FABRIKAM, agreed="on")
    assert network.states(rotation, "agree") == ["done"]  # with the one that holds one alone
    network.record_done(person, rotation, "hold")
    network.wait_until_begin(rotation)
    network.fabrikam.use(theirs={"verify": new[0], "encrypt": new[0]})
    network.wait_for(rotation, "cut_over")
    network.wait_for_good_messages()
    return Announced(FABRIKAM, rotation.starts, rotation.ends), rotation


def change_northwind(network: Network, person: Visitor) -> Change:
    """Change the certificate of the partner that holds two: we verify MDNs with one, so there is a window too."""
    old, new = network.pairs[NORTHWIND]
    network.northwind.decrypt_with([old, new])
    rotation = begin_theirs(network, person, NORTHWIND)
    network.northwind.sign_with(new)
    network.wait_for(rotation, "cut_over")
    network.wait_for_good_messages()
    return Announced(NORTHWIND, rotation.starts, rotation.ends), rotation


def change_fabrikam(network: Network, person: Visitor) -> Change:
    """Change the certificate of the partner that holds one."""
    rotation = begin_theirs(network, person, FABRIKAM)
    network.fabrikam.use(own=dict.fromkeys(("sign", "decrypt"), network.pairs[FABRIKAM][1]))
    network.wait_for(rotation, "cut_over")
    network.wait_for_good_messages()
    return Announced(FABRIKAM, rotation.starts, rotation.ends), rotation


def begin_theirs(network: Network, person: Visitor, partner: str) -> Rotation:
    """Begin the change of a partner's certificate, record its answers, and wait for the window."""
    rotation = network.begin_rotation(person, partner, starts_in=20, seconds=WINDOW_SECONDS)
    network.record_answer(person, rotation, partner, agreed="on", channel="on the telephone")
    network.record_done(person, rotation, "hold")
    network.wait_until_begin(rotation)
    return rotation


def go_back_to_our_old_one(network: Network, person: Visitor, rotation: Rotation) -> Change:
    """Take our certificate back: the partner that holds one has to go back with us at once."""
    old = network.pairs[ACME][0][0]
    begin = datetime.now(UTC)
    person.post(f"/rotations/{rotation.uid}/roll-back/", reason="The new one is not accepted everywhere.")
    network.fabrikam.use(theirs={"verify": old, "encrypt": old})
    wait_until(lambda: "done" in network.states(rotation, "roll_back"), seconds=180, what="the way back")
    network.wait_for_good_messages()
    return Announced(FABRIKAM, begin, begin + timedelta(seconds=WINDOW_SECONDS)), rotation


@pytest.mark.extended
def test_a_hook_that_lets_what_decrypts_sign_as_well_is_noticed_and_undone(network: Network) -> None:
    """Messages fail only until our OpenAS2 has read its files again, with the old certificate as before."""
    network.set_up("by_hook('openas2', read_back='openas2-read')")
    reading = [*network.hook_argv(), "--read-back"]
    person = start_product(network, **{"openas2": network.hook_argv(WRONG_HOOK), "openas2-read": reading})
    begin = datetime.now(UTC)
    rotation = network.begin_rotation(person, ACME, starts_in=3600)
    network.wait_for(rotation, "stage", state="failed")
    end = datetime.now(UTC) + timedelta(seconds=2 * HOOK_SECONDS)
    network.wait_for_good_messages()
    found = network.judge([Announced(NORTHWIND, begin, end)])

    assert found.wrong == []
    page = person.get(f"/rotations/{rotation.uid}/")
    assert "The system uses the new certificate to sign too" in page
    assert "The change was undone: mend the hook, then try again." in page
