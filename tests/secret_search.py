"""A search at the end of each run: nothing that the tests had to do with in secret stands where it must not.

It remembers, in memory alone, each private key that goes through the vault and each password that is set. What is
logged and mailed in the tests' own process is kept in a file until the end, and searched there; installations with
processes of their own are searched when those end, in their logs, mails, messages and database, for the keys that their
database holds. Whatever is found fails the run, and is named by its place, never by what it is.

Load it with ``-p tests.secret_search``; tests/conftest.py does.
"""

from __future__ import annotations

import base64
import codecs
import logging
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from psycopg.sql import SQL, Identifier

#: More keys than a run makes; beyond that, what is new is not remembered.
MOST_KEYS = 20_000
#: Secret numbers are looked for in pieces of so many bytes, or of so many digits.
PIECE, DIGITS = 12, 24
#: A shorter password may stand somewhere by chance.
LONG_ENOUGH = 12
#: Folders and files of an installation that hold secrets on purpose.
ON_PURPOSE = ("as2", "static", "secret_key", "vault_keys")
DATABASE = re.compile(r"db\.sqlite3(-wal)?")

MARKED = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[\\nr\s]+[A-Za-z0-9+/]{16}")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}")
HEX = re.compile(rb"[0-9A-Fa-f]{24,}|[0-9A-Fa-f]{2}(?:[: ][0-9A-Fa-f]{2}){11,}")
DECIMAL = re.compile(rb"[0-9]{40,}")
#: A line in which so many bytes are written as escapes may hold a key as Python shows it.
ESCAPES = 4


@dataclass
class Known:
    """What is secret: pieces of the numbers of keys, and passwords."""

    pieces: set[bytes] = field(default_factory=set)
    digits: set[bytes] = field(default_factory=set)
    words: set[bytes] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)

    def add_key(self, der: bytes) -> None:
        """Remember a private key (DER); anything else that the vault seals is no secret that is searched for."""
        digest = sha256(der).digest()
        if not der.startswith(b"\x30") or digest in self.seen or len(self.seen) >= MOST_KEYS:
            return
        self.seen.add(digest)
        for number in _numbers(der):
            raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
            self.pieces.update(_cut(raw, PIECE))
            self.digits.update(_cut(str(number).encode(), DIGITS))

    def add_word(self, word: object) -> None:
        if isinstance(word, str) and len(word) >= LONG_ENOUGH:
            self.words.add(word.encode())

    def found_in(self, text: bytes, *, deeper: bool = True) -> Iterator[str]:
        """Yield what of it stands in a text, as words: in any of the spellings that programs give to bytes."""
        if MARKED.search(text):
            yield "a private key as PEM"
        if any(word in text for word in self.words):
            yield "a password"
        if not self.pieces:
            return
        for run in set(BASE64.findall(text)):
            decoded = _decoded(run)
            if any(self.holds(raw) for raw in decoded):
                yield "a private key in base64"
            if deeper and decoded[0].isascii():
                yield from self.found_in(decoded[0], deeper=False)
        for run in set(HEX.findall(text)):
            spelled = run.replace(b":", b"").replace(b" ", b"").decode()
            if any(self.holds(bytes.fromhex(s[: len(s) // 2 * 2])) for s in (spelled, spelled[1:])):
                yield "a private key in hexadecimal digits"
        for run in set(DECIMAL.findall(text)):
            if any(run[i : i + DIGITS] in self.digits for i in range(len(run))):
                yield "a private key’s number"
        for line in text.split(b"\n") if b"\\x" in text else ():
            if line.count(b"\\x") >= ESCAPES and self.holds(_unescaped(line)):
                yield "the bytes of a private key"

    def holds(self, raw: bytes) -> bool:
        return any(raw[i : i + PIECE] in self.pieces for i in range(len(raw) - PIECE + 1))

    def stands_raw_in(self, data: bytes) -> bool:
        """Say whether a key stands in binary data as it is; for the few keys of one installation."""
        return any(piece in data for piece in self.pieces)


def _numbers(der: bytes) -> list[int]:
    try:
        key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError):
        return []
    if isinstance(key, RSAPrivateKey):
        numbers = key.private_numbers()
        return [numbers.d, numbers.p, numbers.q]
    return [key.private_numbers().private_value] if isinstance(key, EllipticCurvePrivateKey) else []


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data) - size + 1, size))


def _decoded(run: bytes) -> list[bytes]:
    """Decode base64 of which it is not known with which of four characters it begins."""
    plain = run.replace(b"-", b"+").replace(b"_", b"/")
    return [base64.b64decode(plain[n : n + (len(plain) - n) // 4 * 4]) for n in range(4)]


def _unescaped(line: bytes) -> bytes:
    try:
        return bytes(codecs.escape_decode(line)[0])
    except ValueError:
        return b""


class SecretSearch:
    """What one run has to do with in secret, what it said, and what was found."""

    def __init__(self) -> None:
        self.known = Known()
        self.findings: dict[str, None] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="as2certs-said-"))
        self.said = self.folder / "said.log"
        self.handler = logging.FileHandler(self.said, encoding="utf-8", errors="replace")
        self.handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.patch = pytest.MonkeyPatch()

    def begin(self) -> None:
        from django.contrib.auth.base_user import AbstractBaseUser

        from as2certs.pki.vault import Vault
        from tests.servers import MailServer
        from tests.stack import Stack

        known = self.known
        self.around(Vault, "seal", lambda _, arguments, sealed: known.add_key(bytes(arguments[0])))
        self.around(Vault, "unseal", lambda _, arguments, plain: known.add_key(bytes(plain)))
        self.around(AbstractBaseUser, "set_password", lambda _, arguments, none: known.add_word(arguments[0]))
        self.around(MailServer, "stop", lambda server, arguments, none: self.keep_mails(server.messages))
        self.around(Stack, "kill", lambda stack, arguments, none: self.search_stack(stack))

    def around(self, kind: type, name: str, then: Callable[[Any, tuple[Any, ...], Any], None]) -> None:
        """Let something be told of each call of a method, after it."""
        method = getattr(kind, name)

        @wraps(method)
        def called(this: Any, *arguments: Any, **named: Any) -> Any:
            result = method(this, *arguments, **named)
            then(this, (*arguments, *named.values()), result)
            return result

        self.patch.setattr(kind, name, called)

    def listen(self) -> None:
        """Be among those who hear what is logged; Django's settings send the others away when they are read."""
        root = logging.getLogger()
        if self.handler not in root.handlers:
            root.addHandler(self.handler)

    def keep_mails(self, messages: list[Any]) -> None:
        with self.said.open("ab") as file:
            for message in messages:
                parts = [part.get_payload(decode=True) or b"" for part in message.walk()]
                file.write(b"\n".join([str(message.items()).encode(), *parts, b""]))

    def search_stack(self, stack: Any) -> None:
        """Search an installation whose processes have ended, for the keys that its database holds."""
        if not stack.folder.exists():
            return
        known = Known()
        dump = b""
        for sealed in _sealed_in(stack):
            known.add_key(_unseal(stack, sealed))
        if stack.database_url and known.seen:
            dump = _dumped(stack.database_url)
        self.findings.update(
            {f"{found} in the database of {stack.folder.name}": None for found in known.found_in(dump)}
        )
        for path in sorted(stack.folder.rglob("*")):
            place = path.relative_to(stack.folder)
            if place.parts[0] in ON_PURPOSE or not path.is_file() or path.is_symlink():
                continue
            data = path.read_bytes()
            if DATABASE.fullmatch(path.name):
                found = ["a private key"] if known.stands_raw_in(data) or MARKED.search(data) else []
            else:
                found = list(known.found_in(data))
            self.findings.update({f"{what} in {place} of an installation": None for what in found})

    def end(self) -> list[str]:
        """Search what was said, forget it, and return what was found."""
        self.patch.undo()
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()
        if self.said.exists():
            with self.said.open("rb") as file:
                # In parts that overlap, so that a long run needs no more memory.
                before = b""
                while part := file.read(16 << 20):
                    for found in self.known.found_in(before + part):
                        self.findings[f"{found} in a log or a mail of this run"] = None
                    before = part[-8192:]
        shutil.rmtree(self.folder, ignore_errors=True)
        return list(self.findings)


def _sealed_in(stack: Any) -> list[bytes]:
    query = "SELECT sealed FROM identities_privatekey"
    try:
        if stack.database_url:
            with psycopg.connect(stack.database_url, connect_timeout=5) as connection:
                return [bytes(row[0]) for row in connection.execute(query)]
        with closing(sqlite3.connect(stack.folder / "db.sqlite3")) as file:
            return [bytes(row[0]) for row in file.execute(query)]
    except (psycopg.Error, sqlite3.Error):
        return []  # it never came to a database, or that was what the test took away


def _unseal(stack: Any, sealed: bytes) -> bytes:
    from as2certs.pki import VaultError
    from as2certs.pki.vault import Vault

    try:
        return Vault((stack.folder / "vault_keys").read_text()).unseal(sealed)
    except (VaultError, OSError):
        return b""  # the test took its vault key away


def _dumped(url: str) -> bytes:
    """Return all rows of all tables, as PostgreSQL writes them: bytes as hexadecimal digits."""
    found: list[bytes] = []
    with psycopg.connect(url, connect_timeout=5) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            with connection.cursor().copy(SQL("COPY {} TO STDOUT").format(Identifier(name))) as rows:
                found += [bytes(row) for row in rows]
    return b"".join(found)


# The hooks.

_KEY = pytest.StashKey[SecretSearch]()
_FOUND = "secrets_found"


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_KEY] = search = SecretSearch()
    search.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_KEY].listen()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    from django.core import mail

    outbox = getattr(mail, "outbox", [])
    item.config.stash[_KEY].keep_mails([message.message() for message in outbox])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash[_KEY].end() + session.config.stash.get(_ELSEWHERE, [])
    worker = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker[_FOUND] = found
    session.config.stash[_ELSEWHERE] = found
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_ELSEWHERE = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what the processes among which a run was divided have found."""
    found = getattr(node, "workeroutput", {}).get(_FOUND, [])
    node.config.stash[_ELSEWHERE] = [*node.config.stash.get(_ELSEWHERE, []), *found]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(_ELSEWHERE, [])
    if found:
        terminalreporter.write_sep("=", "SECRETS FOUND WHERE THEY MUST NOT BE", red=True, bold=True)
        for line in dict.fromkeys(found):
            terminalreporter.write_line(f"There is {line}.", red=True)
