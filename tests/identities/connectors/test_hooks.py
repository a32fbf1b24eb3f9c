"""The hook of the directory connector, as real commands: its environment, and its failures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors.base import ConnectorOutcome, ConnectorState
from identities.connectors.directory import DirectoryConnector
from tests.identities.connectors.changes import (
    C1,
    C2,
    FOLDER,
    change,
    current,
    filled_connector,
    hook,
    leftovers,
    previous,
    python_hook,
    rollback_change,
    snapshot,
    station_of,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "as2"


def connector_with_hook(root: Path, argv: list[str], **options: object) -> DirectoryConnector:
    return filled_connector(root, hook="reload", hooks={"reload": argv}, **options)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_hook_runs_once_and_sees_the_new_certificate_in_place(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'cat sign/current/cert.pem >> "{tmp_path}/seen"; env > "{tmp_path}/env"')
    connector = connector_with_hook(root, argv)
    result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.APPLIED
    assert 'the hook "reload" ran' in result.message
    assert (tmp_path / "seen").read_bytes() == C2.certificate_pem
    assert connector.apply(change()).outcome is ConnectorOutcome.ALREADY_APPLIED
    assert (tmp_path / "seen").read_bytes() == C2.certificate_pem
    assert connector.verify(change()).outcome is ConnectorOutcome.APPLIED


def test_the_hook_gets_a_minimal_environment(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AS2CERTS_VAULT_KEYS", "a key of the vault")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:password@host/db")
    connector = connector_with_hook(root, hook(tmp_path / "h", f'env > "{tmp_path}/env"'))
    connector.apply(change("stage-7", {"decrypt": "add"}))
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    made_by_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert set(told) - made_by_the_shell == {
        "PATH",
        "LANG",
        "AS2CERTS_OPERATION",
        "AS2CERTS_SIDE",
        "AS2CERTS_AS2_ID",
        "AS2CERTS_PARTNER",
        "AS2CERTS_ROLES",
        "AS2CERTS_PHASE",
        "AS2CERTS_STATION",
        "AS2CERTS_SHA256",
        "AS2CERTS_STATE",
        *(
            f"AS2CERTS_{role}_{place}{form}"
            for role in ("SIGN", "DECRYPT")
            for place in ("CURRENT", "BESIDE")
            for form in ("", "_SHA256")
        ),
    }
    assert told["AS2CERTS_OPERATION"] == "stage-7"
    assert told["AS2CERTS_PHASE"] == "stage"
    assert told["AS2CERTS_PARTNER"] == ""
    assert told["AS2CERTS_ROLES"] == "decrypt"
    assert told["AS2CERTS_STATION"] == str(station_of(root))
    assert told["AS2CERTS_SHA256"] == C2.sha256


def test_form_input_reaches_no_shell(root: Path, tmp_path: Path) -> None:
    as2_id = f"$(touch {tmp_path}/harm); `id` & 'x'"
    argv = hook(tmp_path / "h", f'printf %s "$AS2CERTS_AS2_ID" > "{tmp_path}/told"')
    connector = connector_with_hook(root, argv)
    assert connector.apply(change(as2_id=as2_id, old=None)).outcome is ConnectorOutcome.APPLIED
    assert (tmp_path / "told").read_text() == as2_id
    assert not (tmp_path / "harm").exists()


def test_a_failing_hook_restores_the_old_certificate_and_runs_again_for_it(root: Path, tmp_path: Path) -> None:
    argv = hook(
        tmp_path / "h",
        f'echo "$AS2CERTS_PHASE" >> "{tmp_path}/phases"; echo "keystore is locked" >&2; exit 3',
    )
    connector = connector_with_hook(root, argv)
    before = snapshot(root)
    result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "status 3" in result.message
    assert "keystore is locked" in result.message
    assert f"{pki.short_fingerprint(C1.sha256)} is still in force." in result.message
    assert (tmp_path / "phases").read_text().split() == ["switch", "put_back"]
    assert snapshot(root) == before
    assert leftovers(station_of(root)) == []
    assert connector.state(change()) is ConnectorState.OLD


def test_a_repaired_hook_lets_the_same_change_through(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'test -e "{tmp_path}/mended"')
    connector = connector_with_hook(root, argv)
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    (tmp_path / "mended").touch()
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED
    assert previous(station_of(root), "sign") == C1.sha256


def test_a_failing_hook_keeps_the_old_certificate_in_a_retirement(root: Path, tmp_path: Path) -> None:
    connector_with_hook(root, hook(tmp_path / "good", "true")).apply(change())
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": hook(tmp_path / "bad", "exit 1")})
    before = snapshot(root)
    result = connector.apply(change("retire-1", {"decrypt": "drop", "sign": "drop"}))
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "still accepted" in result.message
    assert snapshot(root) == before


def test_a_hook_that_hangs_is_terminated_with_its_process_group(root: Path, tmp_path: Path) -> None:
    argv = hook(
        tmp_path / "h",
        f'trap \'\' TERM; sleep 60 & echo $! >> "{tmp_path}/pids"; echo $$ >> "{tmp_path}/pids"; '
        "echo waiting for the server; wait; wait",
    )
    connector = connector_with_hook(root, argv, seconds=0.5)
    began = time.monotonic()
    result = connector.apply(change())
    assert time.monotonic() - began < 20
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "0.5 seconds" in result.message
    assert "waiting for the server" in result.message
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 4, "once for the new one, once for the old"
    assert not any(running(pid) for pid in pids)
    assert current(station_of(root), "sign") == C1.sha256


def test_a_hook_that_leaves_something_running_is_not_waited_for(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'sleep 60 & echo $! > "{tmp_path}/pid"; exit 0')
    began = time.monotonic()
    assert connector_with_hook(root, argv).apply(change()).outcome is ConnectorOutcome.APPLIED
    assert time.monotonic() - began < 20
    os.kill(int((tmp_path / "pid").read_text()), 9)


def test_a_hook_with_endless_output_is_terminated(root: Path, tmp_path: Path) -> None:
    argv = python_hook(tmp_path / "h.py", "while True: print('noise ' * 1000)")
    result = connector_with_hook(root, argv, seconds=0.5).apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert len(result.message) < 10_000


def test_only_the_end_of_a_long_output_is_kept(root: Path, tmp_path: Path) -> None:
    argv = python_hook(
        tmp_path / "h.py",
        "for n in range(50000): print('line', n)\nprint('\\x1b[31mthe reason\\x00')\nraise SystemExit(9)",
    )
    message = connector_with_hook(root, argv).apply(change()).message
    assert "the reason" in message
    assert "line 49999" in message
    assert "line 1\n" not in message
    assert "\x1b" not in message
    assert "\x00" not in message


@pytest.mark.parametrize("body", ["cat sign/current/key.pem; exit 1", "tail -c 300 sign/current/key.pem; exit 1"])
def test_a_hook_that_shows_a_key_is_not_quoted(root: Path, tmp_path: Path, body: str) -> None:
    connector = connector_with_hook(root, hook(tmp_path / "h", body))
    connector_key = (station_of(root) / "sign" / "current" / "key.pem").read_text()
    message = connector.apply(change()).message
    assert "withheld" in message
    assert connector_key.splitlines()[-2] not in message
    assert "PRIVATE KEY" not in message


def test_a_hook_that_shows_a_password_is_quoted_without_it(root: Path, tmp_path: Path) -> None:
    argv = hook(tmp_path / "h", f'set -x; cp sign/current/bundle.pass "{tmp_path}/p"; cat "{tmp_path}/p"; exit 1')
    message = connector_with_hook(root, argv).apply(change()).message
    assert (tmp_path / "p").read_text() not in message
    assert "********" in message


def test_a_hook_that_can_not_be_started_is_named(root: Path, tmp_path: Path) -> None:
    connector = connector_with_hook(root, [str(tmp_path / "absent")])
    result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "could not be started" in result.message
    assert current(station_of(root), "sign") == C1.sha256
    checked = connector.check()
    assert checked.outcome is ConnectorOutcome.REJECTED
    assert "AS2CERTS_HOOKS" in checked.message


@pytest.mark.parametrize("hooks", [{}, {"other": ["true"]}, {"reload": "rm -rf /"}, {"reload": []}, {"reload": [1]}])
def test_an_unknown_hook_is_refused_before_anything_changes(root: Path, hooks: dict[str, object]) -> None:
    connector = filled_connector(root, hook="reload", hooks=hooks)
    before = snapshot(root)
    result = connector.apply(change())
    assert result.outcome is ConnectorOutcome.REJECTED
    assert "AS2CERTS_HOOKS" in result.message
    assert connector.check().outcome is ConnectorOutcome.REJECTED
    assert snapshot(root) == before


def test_links_without_the_hook_are_not_yet_the_new_state(root: Path) -> None:
    filled_connector(root).apply(change())
    connector = DirectoryConnector(root, FOLDER, hook="reload", hooks={"reload": ["true"]})
    other = change("another operation")
    assert connector.state(other) is ConnectorState.PARTLY
    assert connector.verify(other).outcome is ConnectorOutcome.REJECTED
    assert connector.apply(other).outcome is ConnectorOutcome.APPLIED
    assert connector.state(other) is ConnectorState.NEW


def test_a_hook_that_fails_in_a_rollback_leaves_the_new_certificate_until_it_is_repaired(
    root: Path, tmp_path: Path
) -> None:
    argv = hook(tmp_path / "h", f'echo "$AS2CERTS_PHASE" >> "{tmp_path}/phases"; test ! -e "{tmp_path}/broken"')
    connector = connector_with_hook(root, argv)
    assert connector.apply(change()).outcome is ConnectorOutcome.APPLIED
    there = snapshot(root)
    (tmp_path / "broken").touch()
    failed = connector.apply(rollback_change())
    assert failed.outcome is ConnectorOutcome.REJECTED
    assert f"{pki.short_fingerprint(C2.sha256)} is still in force." in failed.message
    assert snapshot(root) == there
    assert connector.state(rollback_change()) is ConnectorState.OLD
    (tmp_path / "broken").unlink()
    assert connector.apply(rollback_change()).outcome is ConnectorOutcome.APPLIED
    assert connector.verify(rollback_change()).outcome is ConnectorOutcome.APPLIED
    assert (tmp_path / "phases").read_text().split() == ["switch", "switch", "put_back", "switch"]
    assert current(station_of(root), "sign") == C1.sha256
