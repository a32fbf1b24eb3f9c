"""An IMAP server process: the part of RFC 3501 that is needed to read a mailbox, over TLS.

Mails are files named by their UIDs, such as `7.eml`; writing a file delivers a mail.
`python -m tests.mail.imap` is that process; `ImapServer` starts, pauses, kills and fills it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.servers import Server
from tests.stack import ROOT

USER, PASSWORD = "bounces@example.com", 'p/w "d"\\'
IN_URL = "bounces%40example.com:p%2Fw%20%22d%22%5C"


class ImapServer(Server):
    """A mailbox over IMAP, with implicit TLS or STARTTLS."""

    name = "imap"

    def __init__(self, shown: Path, *, tls: str = "implicit") -> None:
        super().__init__()
        self.shown, self.tls = shown, tls
        self.mails = self.folder / "INBOX"
        self.mails.mkdir()
        self.begin_anew(1)

    @property
    def url(self) -> str:
        scheme = {"implicit": "imaps", "starttls": "imap+tls"}[self.tls]
        return f"{scheme}://{IN_URL}@localhost:{self.port}/INBOX"

    def argv(self) -> Sequence[str]:
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {__name__} import main; main()"
        where = [str(self.port), str(self.mails), str(self.shown), self.tls]
        return [sys.executable, "-c", program, *where]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def begin_anew(self, validity: int) -> None:
        """Change UIDVALIDITY, as if the mailbox had been recreated."""
        (self.mails / "validity").write_text(str(validity))

    def deliver(self, raw: bytes) -> int:
        """Put a mail into the mailbox, and return its id."""
        uid = max((int(path.stem) for path in self.mails.glob("*.eml")), default=0) + 1
        (self.mails / f"{uid}.eml").write_bytes(raw)
        return uid

    @property
    def said(self) -> list[str]:
        """Return the commands that were received, without the arguments of LOGIN."""
        return [line[2:] for line in self.log.splitlines() if line.startswith("> ")]


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shown", type=Path)
    parser.add_argument("tls")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(given: argparse.Namespace) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.shown)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Conversation(reader, writer, given.folder, context).run()

    over = context if given.tls == "implicit" else None
    server = await asyncio.start_server(converse, "127.0.0.1", given.port, ssl=over)
    await server.serve_forever()


class _Conversation:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        folder: Path,
        context: ssl.SSLContext,
    ) -> None:
        self.reader, self.writer, self.folder, self.context = reader, writer, folder, context

    async def run(self) -> None:
        self.say("* OK ready")
        while line := await self.reader.readline():
            tag, _, command = line.decode().strip().partition(" ")
            name, _, rest = command.partition(" ")
            shown = "LOGIN" if name.upper() == "LOGIN" else command
            sys.stdout.write(f"> {shown}\n")
            sys.stdout.flush()
            if name.upper() == "STARTTLS":
                self.say(f"{tag} OK begin")
                await self.writer.start_tls(self.context)
                continue
            self.say(f"{tag} {self.answer(name.upper(), rest)}")
            await self.writer.drain()
            if name.upper() == "LOGOUT":
                break
        self.writer.close()

    def say(self, line: str) -> None:
        self.writer.write(line.encode() + b"\r\n")

    def answer(self, name: str, rest: str) -> str:
        match name:
            case "CAPABILITY":
                self.say("* CAPABILITY IMAP4rev1 STARTTLS")
            case "LOGIN":
                user, password = (word.replace("\\\\", "\\").replace('\\"', '"') for word in _split_words(rest))
                if (user, password) != (USER, PASSWORD):
                    return "NO [AUTHENTICATIONFAILED] wrong user or password"
            case "EXAMINE" | "SELECT":
                if rest != '"INBOX"':
                    return "NO no such folder"
                self.say(f"* {len(self.uids())} EXISTS")
                self.say(f"* OK [UIDVALIDITY {(self.folder / 'validity').read_text()}] UIDs valid")
            case "UID" if rest.startswith("SEARCH"):
                self.say(f"* SEARCH {' '.join(map(str, self.found(rest)))}")
            case "UID" if found := re.fullmatch(r"FETCH (\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)", rest):
                self.fetch(int(found[1]), int(found[2]))
            case "LOGOUT":
                self.say("* BYE")
            case _:
                return "BAD not known here"
        return "OK done"

    def uids(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.eml"))

    def found(self, rest: str) -> list[int]:
        """Return the UIDs from one on, and always the last one: "7:*" matches 6 if that is the last."""
        uids = self.uids()
        if first := re.search(r"UID (\d+):\*", rest):
            return [uid for uid in uids if uid >= int(first[1])] or uids[-1:]
        assert re.search(r"SINCE \d\d-[A-Z][a-z]{2}-\d{4}$", rest)
        return uids

    def fetch(self, uid: int, most: int) -> None:
        content = (self.folder / f"{uid}.eml").read_bytes()[:most]
        self.writer.write(f"* {uid} FETCH (UID {uid} BODY[]<0> {{{len(content)}}}\r\n".encode() + content + b")\r\n")


def _split_words(rest: str) -> list[str]:
    """Return the quoted or unquoted words of a command."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', rest)
    return [quoted or bare for quoted, bare in found]
