"""Our AS2 system, which the product keeps, and its partners: stations that exchange messages all the time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.certificates import Pair, cert_pem, key_pem, make_pair, rsa_key
from tests.faults.site import Site
from tests.faults.visitor import Visitor
from tests.peers import journal
from tests.peers.installations import ROOT, FolderFiles, OpenAs2Files, StationProcess
from tests.peers.oracle import Announced, Traffic, judge_traffic
from tests.peers.pyas2_peer import Pyas2Peer
from tests.servers import wait_until

ACME, FABRIKAM, NORTHWIND = "ACME", "FABRIKAM", "NORTHWIND"
HOOK = ROOT / "deploy" / "hooks" / "openas2_hook.py"
#: How often our OpenAS2 looks at its files, and what hook and connector are told of that: with a reserve.
RELOAD_SECONDS, HOOK_SECONDS, CONNECTOR_SECONDS = 0.5, 1.0, 1


@dataclass(frozen=True)
class Rotation:
    """A rotation in the installation: ids for the addresses of its pages, and its window in UTC."""

    uid: str
    sha256: str
    starts: datetime
    ends: datetime
    participants: Mapping[str, str]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Rotation:
        moments = {name: datetime.fromisoformat(found[name]) for name in ("starts", "ends")}
        return cls(**{**found, **moments})


class Network:
    """The stations and the installation. `partners` are those of `tests.peers.company.PARTNERS` that take part."""

    def __init__(self, folder: Path, site: Site, python: Path | None = None) -> None:
        """Make the stations with their old certificates; django-pyas2 takes part if `python` is that of its
        environment."""
        self.site = site
        self.partners = [*([FABRIKAM] if python else []), NORTHWIND]
        self.pairs = {name: _pairs(name) for name in (ACME, *self.partners)}
        self.openas2 = OpenAs2Files(folder / "openas2")
        self.northwind = FolderFiles(folder / "northwind")
        self.acme = StationProcess(ACME)
        self.stations: dict[str, StationProcess] = {ACME: self.acme, NORTHWIND: StationProcess(NORTHWIND)}
        if python:
            self.fabrikam = Pyas2Peer(FABRIKAM, python)
            self.stations[FABRIKAM] = self.fabrikam
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        for name, pairs in self.pairs.items():
            for age, (certificate, key) in zip(("old", "new"), pairs, strict=True):
                (self.certificates / f"{name}-{age}.pem").write_bytes(cert_pem(certificate) + key_pem(key))

    # Before.

    def hook_argv(self, program: Path = HOOK) -> list[str]:
        """Return the command line of a hook that keeps our OpenAS2."""
        files = self.openas2
        return [
            *("python", str(program), "--keystore", str(files.keystore)),
            *("--password-file", str(files.password_file), "--partnerships", str(files.partnerships)),
            *("--keystore-seconds", str(HOOK_SECONDS), "--partnerships-seconds", str(HOOK_SECONDS)),
        ]

    def describe_openas2(self) -> str:
        """Return the columns of our AS2 system with the connector to OpenAS2, as an expression."""
        files = self.openas2
        self.site.environment["AS2CERTS_OPENAS2_ROOTS"] = str(files.keystore.parent)
        return f"by_openas2({str(files.keystore)!r}, {str(files.partnerships)!r}, {CONNECTOR_SECONDS})"

    def set_up(self, system: str) -> None:
        """Let every station use its old certificate, describe all that to the product, and begin to send.

        `system` is an expression of `tests.peers.company` for the columns of our AS2 system.
        """
        self._fill_stations()
        wanted = f"Path({str(self.certificates)!r}), {self.partners}, company.{system}"
        self.site.python(f"from pathlib import Path\nfrom tests.peers import company\ncompany.set_up({wanted})\n")
        for station in self.stations.values():
            station.start()
        for station in self.stations.values():
            station.begin()

    def _fill_stations(self) -> None:
        old = {name: pairs[0] for name, pairs in self.pairs.items()}
        self.openas2.add_key("acme", old[ACME])
        for name in self.partners:
            self.openas2.add_certificate(name.lower(), old[name][0])
        self.openas2.write_partnerships(ACME, {name: name.lower() for name in (ACME, *self.partners)})
        store = self.openas2.config(keystore_seconds=RELOAD_SECONDS, partnerships_seconds=RELOAD_SECONDS)
        self.acme.set_up(store, {name: self.stations[name].url for name in self.partners})
        self.northwind.sign_with(old[NORTHWIND])
        self.northwind.decrypt_with([old[NORTHWIND]])
        self.northwind.encrypt_to(ACME, old[ACME][0])
        self.northwind.verify(ACME, [old[ACME][0]])
        self.stations[NORTHWIND].set_up(self.northwind.config, {ACME: self.acme.url})
        if FABRIKAM in self.partners:
            self.fabrikam.connect(ACME, self.acme.url)
            roles = ("sign", "decrypt"), ("verify", "encrypt")
            self.fabrikam.use(own=dict.fromkeys(roles[0], old[FABRIKAM]), theirs=dict.fromkeys(roles[1], old[ACME][0]))

    # What our people do on the pages.

    def begin_rotation(self, person: Visitor, as2_id: str, *, starts_in: float, seconds: float = 3600) -> Rotation:
        """Set up and approve the rotation of a station's certificate."""
        wanted = f"company.draft({as2_id!r}, {starts_in}, {seconds})"
        code = f"import json\nfrom tests.peers import company\nprint(json.dumps({wanted}))\n"
        rotation = Rotation.of(self.site.python(code))
        page = f"/rotations/{rotation.uid}/approve/"
        seen = re.search(r'name="seen" value="([^"]+)"', person.get(page))
        assert seen is not None
        person.post(page, seen=seen[1])
        return rotation

    def give_own_window(self, rotation: Rotation, partner: str, starts: datetime, seconds: float) -> None:
        """Give a partner a window of its own."""
        wanted = f"company.move({rotation.participants[partner]!r}, {starts.isoformat()!r}, {seconds})"
        self.site.python(f"from tests.peers import company\n{wanted}\n")

    def record_answer(self, person: Visitor, rotation: Rotation, partner: str, **answer: str) -> None:
        """Record what a partner said on the telephone: the fingerprint, and with `agreed` that the window suits it."""
        fields = {"fingerprint": rotation.sha256, "installed": "on", "spoke_with": "Nora", **answer}
        person.post(f"/rotations/partners/{rotation.participants[partner]}/answer/", **fields)

    def record_done(self, person: Visitor, rotation: Rotation, act: str) -> None:
        """Record the open steps of a kind as done, if there are any."""
        for kind, state, uid in self._steps(rotation):
            if (kind, state) == (act, "waiting"):
                person.post(f"/rotations/steps/{UUID(uid)}/done/")

    def wait_for(self, rotation: Rotation, act: str, *, state: str = "done", seconds: float = 180) -> None:
        """Wait until all steps of a kind are in a state."""
        wait_until(
            lambda: set(self.states(rotation, act)) == {state}, seconds=seconds, what=f"{act} to be {state}", every=0.2
        )

    def wait_until_begin(self, rotation: Rotation) -> None:
        """Wait until the window begins."""
        wait_until(lambda: datetime.now(UTC) >= rotation.starts, what="the window")

    def states(self, rotation: Rotation, act: str) -> list[str]:
        return [state for kind, state, _ in self._steps(rotation) if kind == act]

    def _steps(self, rotation: Rotation) -> list[tuple[str, str, str]]:
        """Return act, state and id of the steps of a rotation in their order."""
        query = (
            "SELECT r.uid, s.act, s.state, s.uid FROM rotations_step s "
            "JOIN rotations_rotation r ON r.id = s.rotation_id ORDER BY s.position"
        )
        return [(act, state, uid) for of, act, state, uid in self.site.sql(query) if UUID(of) == UUID(rotation.uid)]

    # The traffic.

    def wait_for_messages(self, count: int = 2) -> None:
        """Wait until so many more messages have arrived in every direction."""
        wanted = [len(verdicts) + count for verdicts in self._verdicts()]
        wait_until(
            lambda: all(len(now) >= number for now, number in zip(self._verdicts(), wanted, strict=True)),
            seconds=60,
            what="messages",
        )

    def wait_for_good_messages(self, count: int = 3) -> None:
        """Wait until the last messages in every direction were accepted, so many of each."""
        wait_until(
            lambda: all(verdicts[-count:] == ["accepted"] * count for verdicts in self._verdicts()),
            seconds=120,
            what="good messages",
        )

    def _verdicts(self) -> list[list[str]]:
        """Return the verdicts of all messages, in a list for each direction."""
        return [
            [
                entry["verdict"]
                for entry in self.stations[sender].entries()
                if entry["event"] == journal.OUTCOME and entry["partner"] == recipient
            ]
            for name in self.partners
            for sender, recipient in ((ACME, name), (name, ACME))
        ]

    def judge(self, announced: Sequence[Announced] = ()) -> Traffic:
        """Let all stations fall silent, and judge what they exchanged."""
        for station in self.stations.values():
            station.fall_silent()
        return judge_traffic({name: station.entries() for name, station in self.stations.items()}, announced)

    def close(self) -> None:
        for station in self.stations.values():
            station.close()


def _pairs(name: str) -> tuple[Pair, Pair]:
    """Return the certificate in use, which ends soon, and the next one."""
    today = datetime.now(UTC).replace(microsecond=0)
    begin = today - timedelta(days=1)
    old, new = (
        make_pair(name, not_before=begin, not_after=today + timedelta(days=days), key=rsa_key(f"{name} {days}"))
        for days in (30, 750)
    )
    return old, new
