"""The search at the end of each run finds what is planted, fails the run by it, and does not repeat it."""

from __future__ import annotations

import base64
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from as2certs.pki.vault import Vault, new_vault_key
from tests.certificates import cert_pem, key_pem, make_pair, rsa_key
from tests.samples import sample
from tests.secret_search import Known, SecretSearch
from tests.stack import ROOT, Stack

DER = rsa_key("searched").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PEM = key_pem(rsa_key("searched"))
LEAF = make_pair(key=rsa_key("searched"))[0]

#: In which spellings a key may stand somewhere.
SPELLINGS = {
    "PEM": PEM,
    "PEM of another format": key_pem(rsa_key("searched"), traditional=True),
    "a line of a PEM": PEM.splitlines()[9],
    "PEM as Python shows it": repr(PEM).encode(),
    "base64 in the midst of something": b"x" + base64.b64encode(b"ab" + DER),
    "base64 of a message that holds a PEM": base64.b64encode(b'{"key": "' + PEM + b'"}'),
    "bytes as Python shows them": repr(DER).encode(),
    "hexadecimal digits": DER.hex().encode(),
    "hexadecimal digits with colons": DER.hex(":").upper().encode(),
    "a number": str(rsa_key("searched").private_numbers().d).encode(),
}


@pytest.fixture
def known() -> Known:
    known = Known()
    known.add_key(DER)
    known.add_word("correct horse battery")
    return known


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_a_key_is_found_in_every_spelling(spelling: str, known: Known) -> None:
    assert list(known.found_in(b"Before: " + SPELLINGS[spelling] + b" and after\n"))


def test_what_is_no_secret_is_not_found(known: Known) -> None:
    sealed = Vault([new_vault_key()]).seal(DER)
    public = LEAF.public_bytes(Encoding.DER)
    harmless = [
        cert_pem(LEAF),
        repr(public).encode(),
        public.hex().encode(),
        sealed,
        str(LEAF.serial_number).encode(),
    ]
    assert list(known.found_in(b"\n".join(harmless))) == []
    assert not known.stands_raw_in(public + sealed)
    assert known.stands_raw_in(public + DER)


def test_a_password_is_found(known: Known) -> None:
    assert list(known.found_in(b"Wrong password: correct horse battery")) == ["a password"]
    assert list(known.found_in(b"Wrong password: ********")) == []


CLEAN = """
import logging
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core import mail
from as2certs.accounts.models import User
from as2certs.pki.vault import Vault, new_vault_key
from tests.certificates import cert_pem, key_pem, make_pair

def test_something_secret():
    leaf, key = make_pair()
    body = "".join(key_pem(key).decode().splitlines()[5:9])
    Vault([new_vault_key()]).seal(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    User().set_password("correct horse battery")
    log = logging.getLogger("somebody")
    log.warning("A certificate: %s", cert_pem(leaf).decode())
    {planted}
"""

PLANTED = {
    "a log": ("log.warning(body)", "a private key in base64 in a log"),
    "a traceback": (
        "try:\n        raise ValueError(body)\n    except ValueError:\n        log.exception('It failed')",
        "a private key in base64 in a log",
    ),
    "a mail": (
        "mail.send_mail('Hello', body, 'a@example.com', ['b@example.com'])",
        "a private key in base64",
    ),
    "a password": ("log.warning('Wrong: correct horse battery')", "a password in a log"),
}


def run(tmp_path: Path, planted: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    test = tmp_path / "test_planted.py"
    test.write_text(CLEAN.replace("{planted}", planted))
    command = [
        "-m",
        "pytest",
        "-p",
        "tests.secret_search",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--no-header",
        "-q",
    ]
    return subprocess.run(
        [sys.executable, *command, f"--rootdir={ROOT}", str(test), *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_run_that_keeps_its_secrets_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "pass")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SECRETS FOUND" not in done.stdout


@pytest.mark.parametrize("where", sample(PLANTED, 2))
def test_a_run_fails_that_says_a_secret_although_all_its_tests_pass(where: str, tmp_path: Path) -> None:
    planted, told = PLANTED[where]
    done = run(tmp_path, planted)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    _, _, last = done.stdout.partition("SECRETS FOUND WHERE THEY MUST NOT BE")
    assert f"There is {told}" in last
    assert "correct horse" not in last


def test_an_installation_is_searched_when_its_processes_have_ended(tmp_path: Path) -> None:
    """What is planted is its own: the keys of its database, which its own vault opens."""
    stack = Stack(tmp_path / "var")
    stack.folder.mkdir()
    (stack.folder / "vault_keys").write_text(vault_key := new_vault_key())
    with closing(sqlite3.connect(stack.folder / "db.sqlite3")) as database, database:
        database.execute("CREATE TABLE identities_privatekey (sealed blob)")
        database.execute("INSERT INTO identities_privatekey VALUES (?)", [Vault([vault_key]).seal(DER)])
    (stack.folder / "as2").mkdir()
    (stack.folder / "as2" / "key.pem").write_bytes(PEM)  # where AS2 systems want it
    search = SecretSearch()
    search.search_stack(stack)
    assert search.findings == {}
    planted = {
        "worker-1.log": PEM.splitlines()[9],
        "mail/1.eml": PEM,
        "broker/queue/1.msg": base64.b64encode(b'{"key": "' + PEM + b'"}'),
    }
    for name, content in planted.items():
        (stack.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stack.folder / name).write_bytes(content)
    with closing(sqlite3.connect(stack.folder / "db.sqlite3")) as database, database:
        database.execute("CREATE TABLE notes (text blob)")
        database.execute("INSERT INTO notes VALUES (?)", [DER])
    search.search_stack(stack)
    for name in ("db.sqlite3", *planted):
        assert any(f" in {name} of an installation" in finding for finding in search.findings), name
    search.end()
