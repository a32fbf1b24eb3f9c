"""What fails while the files of OpenAS2 are changed: afterwards the old certificate is in force, or it continues."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from as2certs import pki
from identities.connectors import openas2_keystore, station_folder
from identities.connectors.base import ConnectorError, ConnectorOutcome, ConnectorState
from identities.connectors.openas2_keystore import LOCK_NAME, locked
from tests.identities.connectors.changes import C1, C2, C3
from tests.identities.connectors.openas2_files import (
    NEW_ALIAS,
    PASSWORD,
    Server,
    carry_out,
    edit,
    needs_keytool,
    own_change,
)

pytestmark = needs_keytool

APPLIED, PENDING = ConnectorOutcome.APPLIED, ConnectorOutcome.PENDING
REJECTED, RETRYABLE = ConnectorOutcome.REJECTED, ConnectorOutcome.RETRYABLE
Snapshot = tuple[bytes, float, bytes, float]


def snapshot(server: Server) -> Snapshot:
    """Return the content and the time of change of both files."""
    store, xml = server.store, server.xml
    return store.read_bytes(), store.stat().st_mtime, xml.read_bytes(), xml.stat().st_mtime


def failing(number: int, path: Path | None = None) -> Callable[..., None]:
    """Return an `os.replace` that fails with an error of the operating system, for one target or for all."""
    original = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        if path is None or Path(target) == path:
            raise OSError(number, os.strerror(number), str(target))
        original(source, target)

    return replace


class Killed(BaseException):
    """Stands for a killed process: nothing catches it."""


def killed_at(path: Path, *, after: bool) -> Callable[..., None]:
    """Return an `os.replace` that is the last call of a process, before or after its effect on one file."""
    original = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        if Path(target) != path or after:
            original(source, target)
        if Path(target) == path:
            raise Killed

    return replace


@contextmanager
def rest_interface(answer: Callable[[str], tuple[int, object]]) -> Iterator[str]:
    """Serve `GET …/cert/view/<alias>` with what `answer` says for the alias, and yield the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer(self.path.rpartition("/")[2])
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shows(item: object) -> dict[str, object]:
    """Return the answer of OpenAS2 that shows a certificate."""
    (certificate,) = pki.load_pem(item.certificate_pem)  # type: ignore[attr-defined]
    return {"type": "OK", "results": [{"data": base64.b64encode(pki.to_der(certificate)).decode()}]}


def test_a_wrong_password_changes_nothing_and_is_named_without_showing_it(server: Server) -> None:
    server.options, before = {"password": "wrong-password-1"}, snapshot(server)
    result = server.connector.apply(own_change("stage"))
    assert (result.outcome, snapshot(server)) == (REJECTED, before)
    assert "password of the keystore" in result.message
    assert "wrong-password-1" not in result.message
    assert server.connector.check().outcome is REJECTED


def test_without_keytool_the_package_is_named(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = snapshot(server)
    monkeypatch.setenv("PATH", str(tmp_path))
    server.listed = {}
    result = server.connector.apply(own_change("stage"))
    assert (result.outcome, snapshot(server)) == (REJECTED, before)
    assert "default-jre-headless" in result.message


def test_a_slow_keytool_is_ended_and_tried_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "keytool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    server.options, server.listed, before = {"keytool_seconds": 0.2}, {}, snapshot(server)
    result = server.connector.apply(own_change("stage"))
    assert (result.outcome, snapshot(server)) == (RETRYABLE, before)


def test_passwords_and_keys_are_in_no_argument(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, program = shutil.which("keytool"), tmp_path / "bin" / "keytool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/arguments\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert server.connector.apply(own_change("stage")).outcome is PENDING
    words = (tmp_path / "arguments").read_text()
    assert "-importkeystore" in words
    assert PASSWORD not in words
    assert "PRIVATE" not in words


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_error_when_the_partnerships_are_replaced_leaves_the_old_ones(
    staged: Server, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = snapshot(staged)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(number, staged.xml))
        result = staged.connector.apply(own_change("switch"))
    assert (result.outcome, snapshot(staged)) == (REJECTED, before)
    assert staged.leftovers() == []
    assert carry_out(staged, own_change("switch", "again")) == [PENDING, APPLIED]


def test_a_folder_that_can_not_be_synced_gets_the_old_file_back_with_a_fresh_time(
    staged: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(staged)

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(openas2_keystore, "fsync_folder", fail)
        result = staged.connector.apply(own_change("switch"))
    assert result.outcome is REJECTED
    assert staged.xml.read_bytes() == before[2]
    assert staged.xml.stat().st_mtime >= before[3] + 2
    assert staged.partner()[0] == "acme-2024"


def test_partnerships_that_somebody_changes_meanwhile_are_kept_and_it_is_tried_again(
    staged: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = station_folder.write_file

    def interfere(path: Path, content: bytes, mode: int) -> None:
        original(path, content, mode)
        staged.xml.write_text(staged.xml.read_text().replace("agreed by telephone", "agreed by mail"))

    with monkeypatch.context() as patch:
        patch.setattr(openas2_keystore, "write_file", interfere)
        result = staged.connector.apply(own_change("switch"))
    assert result.outcome is RETRYABLE
    assert "agreed by mail" in staged.xml.read_text()
    assert staged.partner() == ("acme-2024", NEW_ALIAS)
    assert staged.connector.apply(own_change("switch")).outcome is PENDING
    assert "agreed by mail" in staged.xml.read_text()
    assert staged.partner() == (NEW_ALIAS, "acme-2024")


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_the_keystore_is_replaced_it_continues(
    server: Server, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_at(server.store, after=after))
        with pytest.raises(Killed):
            server.connector.apply(own_change("stage"))
    assert server.partner() == ("acme-2024", "")
    assert server.connector.state(own_change("stage")) is (ConnectorState.PARTLY if after else ConnectorState.OLD)
    assert carry_out(server, own_change("stage")) == [PENDING, PENDING, APPLIED]
    assert server.partner() == ("acme-2024", NEW_ALIAS)


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_the_partnerships_are_replaced_it_continues(
    staged: Server, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_at(staged.xml, after=after))
        with pytest.raises(Killed):
            staged.connector.apply(own_change("switch"))
    assert staged.partner()[0] == (NEW_ALIAS if after else "acme-2024")
    assert staged.connector.state(own_change("switch")) is (ConnectorState.STORED if after else ConnectorState.OLD)
    assert carry_out(staged, own_change("switch")) == [PENDING, APPLIED]


def test_the_folder_of_a_killed_call_is_removed_by_the_next_one(staged: Server) -> None:
    left = staged.folder / ".as2certs-left"
    left.mkdir()
    (left / "key.p12").write_bytes(b"sealed")
    assert staged.connector.apply(own_change("switch")).outcome is PENDING
    assert staged.leftovers() == []


def test_a_damaged_keystore_is_named_and_left_alone(server: Server) -> None:
    server.store.write_bytes(server.store.read_bytes()[:400])
    before = snapshot(server)
    with pytest.raises(ConnectorError, match="damaged"):
        server.connector.state(own_change("stage"))
    result = server.connector.apply(own_change("stage"))
    assert (result.outcome, snapshot(server)) == (REJECTED, before)


def test_unreadable_partnerships_are_refused_with_the_line(staged: Server) -> None:
    edit(staged, "</partnerships>", "</partnership>")
    before = snapshot(staged)
    result = staged.connector.apply(own_change("switch"))
    assert (result.outcome, snapshot(staged)) == (REJECTED, before)
    assert "line" in result.message


def test_an_unknown_as2_id_is_refused(staged: Server) -> None:
    edit(staged, 'as2_id="ACME-PROD"', 'as2_id="ACME-TEST"')
    assert "ACME-PROD" in staged.connector.apply(own_change("switch")).message


def test_a_partner_without_a_partnership_is_refused(staged: Server) -> None:
    before = snapshot(staged)
    result = staged.connector.apply(own_change("switch", partner="FABRIKAM"))
    assert (result.outcome, snapshot(staged)) == (REJECTED, before)
    assert "No partnership connects ACME-PROD with FABRIKAM" in result.message


def test_an_alias_of_two_stations_is_refused(staged: Server) -> None:
    edit(staged, 'as2_id="CONTOSO" x509_alias="contoso"', 'as2_id="CONTOSO" x509_alias="acme-2024"')
    before = snapshot(staged)
    result = staged.connector.apply(own_change("switch"))
    assert (result.outcome, snapshot(staged)) == (REJECTED, before)
    assert "acme-2024 is named for ACME-PROD and for CONTOSO" in result.message


def test_a_certificate_of_somebody_else_is_drift(staged: Server) -> None:
    """Neither the planned old nor the new certificate signs."""
    change = own_change("switch", old=C3, new=C2)
    assert staged.connector.state(change) is ConnectorState.DRIFT
    before = snapshot(staged)
    result = staged.connector.apply(change)
    assert (result.outcome, snapshot(staged)) == (REJECTED, before)
    assert "acme-2024" in result.message


def test_a_strange_choice_for_one_partner_is_drift(staged: Server) -> None:
    edit(staged, '<sender name="ACME"/>\n        <receiver name="Contoso"/>', '<sender name="ACME" '
         'x509_alias="gone"/>\n        <receiver name="Contoso"/>')  # fmt: skip
    assert staged.connector.state(own_change("switch")) is ConnectorState.DRIFT
    assert "no entry gone" in staged.connector.apply(own_change("switch")).message


def test_the_old_entry_stays_while_an_element_names_it(staged: Server) -> None:
    edit(staged, f'x509_alias="acme-2024" x509_alias_fallback="{NEW_ALIAS}"', f'x509_alias="{NEW_ALIAS}"')
    edit(staged, '<receiver name="Contoso"/>', '<receiver name="Contoso" x509_alias_fallback="acme-2024"/>')
    staged.settle()
    assert staged.connector.apply(own_change("retire")).outcome is APPLIED
    assert "acme-2024" in staged.entries()


def test_a_writer_that_takes_too_long_is_waited_for_and_then_tried_again(staged: Server) -> None:
    staged.options, before = {"lock_seconds": 0.1}, snapshot(staged)
    with locked(staged.folder, 1):
        result = staged.connector.apply(own_change("switch"))
    assert (result.outcome, snapshot(staged)) == (RETRYABLE, before)
    assert (staged.folder / LOCK_NAME).stat().st_mode & 0o777 == 0o600


def test_the_rest_interface_has_to_show_the_certificate_before_it_is_named_and_in_the_end(server: Server) -> None:
    read: set[str] = set()

    def answer(alias: str) -> tuple[int, object]:
        return (200, shows(C2)) if alias in read else (200, {"type": "ERROR", "results": ["no such alias"]})

    with rest_interface(answer) as url:
        server.options = {"rest_url": url, "rest_urls": (url,), "rest_user": "u", "rest_password": "p"}
        server.connector.apply(own_change("stage"))
        server.clock.ahead = 1000
        result = server.connector.apply(own_change("stage"))
        assert (result.outcome, server.partner()) == (PENDING, ("acme-2024", ""))
        assert "does not show" in result.message
        read.add(NEW_ALIAS)
        assert server.connector.apply(own_change("stage")).outcome is PENDING
        assert server.partner() == ("acme-2024", NEW_ALIAS)
        server.clock.ahead += 125
        done = server.connector.verify(own_change("stage"))
        assert (done.outcome, done.in_use) == (APPLIED, True)
        assert server.connector.shows_use


def test_a_rest_interface_that_shows_another_certificate_fails_the_step(staged: Server) -> None:
    with rest_interface(lambda _: (200, shows(C1))) as url:
        staged.options = {"rest_url": url, "rest_urls": (url,)}
        result = staged.connector.verify(own_change("stage"))
    assert (result.outcome, result.in_use) == (REJECTED, False)
    assert "find out which keystore it reads" in result.message


@pytest.mark.parametrize(("status", "content"), [(500, {}), (200, ["x"]), (200, {"type": "OK", "results": [{}]})])
def test_a_rest_interface_with_a_strange_answer_shows_nothing(staged: Server, status: int, content: object) -> None:
    with rest_interface(lambda _: (status, content)) as url:
        staged.options = {"rest_url": url, "rest_urls": (url,)}
        assert staged.connector.verify(own_change("stage")).outcome is PENDING


def test_a_rest_interface_that_is_down_leaves_the_step_stored(staged: Server) -> None:
    with rest_interface(lambda _: (200, {})) as url:
        pass
    staged.options = {"rest_url": url, "rest_urls": (url,)}
    result = staged.connector.verify(own_change("stage"))
    assert (result.outcome, result.in_use) == (PENDING, False)
    assert "does not answer" in result.message


def test_a_rest_interface_that_the_server_does_not_name_is_not_asked(staged: Server) -> None:
    asked: list[str] = []
    with rest_interface(lambda alias: (asked.append(alias) or 200, shows(C2))) as url:  # type: ignore[func-returns-value]
        staged.options = {"rest_url": url}
        result = staged.connector.verify(own_change("stage"))
    assert (result.outcome, asked) == (PENDING, [])
    assert "AS2CERTS_OPENAS2_REST" in result.message
