"""An SMTP server process: without TLS, with STARTTLS or implicit TLS, with or without a login.

`python -m tests.mail.smtp_server` is that process; `SmtpServer` starts, pauses, kills and reads it.
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
import socket
import ssl
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from tests.certificates import Pair, cert_pem, key_pem, rsa_key
from tests.servers import Server
from tests.stack import ROOT


@dataclass(frozen=True)
class ServerCertificates:
    """The files of a server's certificate and key, and of the CA that a client has to trust."""

    shown: Path
    authority: Path


def make_server_certificates(folder: Path, name: str = "localhost") -> ServerCertificates:
    """Create a CA and a server certificate for a name or an address, valid from yesterday to tomorrow."""
    authority = _certificate("Example Mail CA")
    pair = _certificate(name, issuer=authority)
    made = ServerCertificates(folder / f"{name}.pem", folder / f"{name}.ca.pem")
    made.shown.write_bytes(cert_pem(pair[0]) + key_pem(pair[1]))
    made.authority.write_bytes(cert_pem(authority[0]))
    return made


def _certificate(name: str, issuer: Pair | None = None) -> Pair:
    key = rsa_key(f"mail {name}")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer or (None, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
    return builder.sign(signer[1], hashes.SHA256()), key


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class SmtpServer(Server):
    """A mail server process; each accepted mail becomes a file.

    ``tls`` is "", "starttls" or "implicit"; ``login`` is "user:password". ``wait`` lets it take so many seconds over
    each whole mail before it answers, ``mute`` lets it accept so many mails and hang up without an answer.
    """

    name = "post-office"

    def __init__(
        self, *, tls: str = "", shown: Path | None = None, login: str = "", wait: float = 0, mute: int = 0
    ) -> None:
        super().__init__()
        (self.folder / "taken").mkdir()
        self.options = {
            "--tls": tls,
            "--shown": str(shown or ""),
            "--login": login,
            "--wait": str(wait),
            "--mute": str(mute),
        }

    def argv(self) -> Sequence[str]:
        options = [word for option, value in self.options.items() if value for word in (option, value)]
        where = [str(self.port), str(self.folder / "taken")]
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {__name__} import main; main()"
        return [sys.executable, "-c", program, *where, *options]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def taken(self) -> list[EmailMessage]:
        """Return the accepted mails, in order."""
        found = []
        for path in sorted((self.folder / "taken").glob("*.eml")):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            found.append(message)
        return found


class _Handler:
    """Accepts everything, and adds ``X-TLS`` and ``X-Login`` headers to what it stores."""

    def __init__(self, folder: Path, *, wait: float, mute: int) -> None:
        self.folder, self.wait, self.mute = folder, wait, mute
        self.count = 0

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        self.count += 1
        content = envelope.content
        assert isinstance(content, bytes)
        over = server.transport.get_extra_info("ssl_object")
        heard = f"X-TLS: {over.version() if over else 'none'}\r\nX-Login: {session.authenticated}\r\n".encode()
        name = f"{self.count:04}-{uuid.uuid4().hex}.eml"
        (self.folder / name).write_bytes(heard + content)
        if self.count <= self.mute:
            server.transport.abort()
        await asyncio.sleep(self.wait)
        return "250 taken"


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", default="")
    parser.add_argument("--shown", default="")
    parser.add_argument("--login", default="")
    parser.add_argument("--wait", type=float, default=0)
    parser.add_argument("--mute", type=int, default=0)
    asyncio.run(_serve(parser.parse_args()))


async def _serve(given: argparse.Namespace) -> None:
    context = None
    if given.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.shown)
    user, _, password = given.login.partition(":")

    def knows(server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        fits = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=fits, handled=fits)

    handler = _Handler(given.folder, wait=given.wait, mute=given.mute)

    def conversation() -> SMTP:
        return SMTP(
            handler,
            tls_context=context if given.tls == "starttls" else None,
            require_starttls=given.tls == "starttls",
            authenticator=knows if given.login else None,
            auth_required=bool(given.login),
            auth_require_tls=given.tls == "starttls",  # of TLS from the first byte it does not know
        )

    over = context if given.tls == "implicit" else None
    server = await asyncio.get_running_loop().create_server(conversation, "127.0.0.1", given.port, ssl=over)
    await server.serve_forever()
