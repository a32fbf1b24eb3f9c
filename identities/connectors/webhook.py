"""Send changes as signed requests to a script on the side of the AS2 system, and ask it what the system uses.

A change is a POST with JSON of public material only: private keys never leave this application by it. The same URL
answers a GET with what the system holds at a station. Both are signed: HMAC-SHA256 over the timestamp, a dot, and the
body, or the query in place of a body.

Each change starts with that GET, also after a POST whose answer was lost, and is sent again with the same operation as
`Idempotency-Key`, so that the script can tell a repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlencode

from as2certs.as2 import (
    AddressRefused,
    Answer,
    Headers,
    IpNetwork,
    Network,
    NoAnswer,
    fetch,
    read_url,
    send,
)
from identities.connectors import reported_use
from identities.connectors.base import (
    Baseline,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    ConnectorUnreachable,
    HeldCertificates,
    InstallableCertificate,
    Lead,
    StationUse,
)
from identities.connectors.comparison import hook_phase, name_certificate, name_roles
from identities.connectors.remote_calls import read_retry_after, readable_reason
from identities.connectors.reported_use import Report, RoleReport

MIN_SECRET_CHARACTERS = 32
MAX_ROLES, MAX_CERTIFICATES = 20, 50
LIMITS = Network(connect_seconds=10, read_seconds=30, total_seconds=60, max_body_bytes=64 * 1024)
"""How long a request may take, and how much of an answer is read."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,60}")
_BUSY = frozenset({429, 503})
"""Answers after which the same request may be sent again."""
_SIGNATURE_REFUSED = frozenset({401, 403})
_ANSWER = '{"roles": {"sign": [{"fingerprint_sha256": "<SHA-256>", "state": "in_use"}]}} with a list for each role'


def check_url(url: str, allowed: Sequence[IpNetwork]) -> None:
    """Raise ConnectorError unless a webhook may have this URL: HTTPS, or HTTP to an address in an allowed network."""
    try:
        target = read_url(url)
    except AddressRefused as error:
        raise ConnectorError(str(error)) from error
    if target.is_encrypted or _is_allowed(target.host, allowed):
        return
    raise ConnectorError(
        "The address of a webhook starts with https://. Plain HTTP is for addresses such as 127.0.0.1 in the networks "
        "that AS2CERTS_CONNECTOR_NETWORKS names."
    )


def _is_allowed(host: str, allowed: Sequence[IpNetwork]) -> bool:
    try:
        return any(ip_address(host) in network for network in allowed)
    except ValueError:  # a name, or another notation of an address
        return False


def check_key_id(key_id: str) -> None:
    """Raise ConnectorError for a name of a key that can't be sent in a header."""
    if not _KEY_ID.fullmatch(key_id):
        raise ConnectorError("A key ID has 1 to 60 letters, digits, dots and dashes, such as 2026-11.")


def check_secret(secret: str) -> None:
    """Raise ConnectorError for a secret that could be guessed; the message does not hold it."""
    if len(secret) < MIN_SECRET_CHARACTERS or not secret.isascii() or not secret.isprintable():
        raise ConnectorError(
            f"The secret of a webhook has {MIN_SECRET_CHARACTERS} printable ASCII characters or more, such as what "
            "“openssl rand -hex 32” prints."
        )


def check_ca(pem: str) -> None:
    """Raise ConnectorError for a text that holds something else than certificates, unless it is empty."""
    if not pem.strip():
        return
    try:
        ssl.create_default_context().load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise ConnectorError(
            "The private CA is no certificate as PEM: paste it from “-----BEGIN CERTIFICATE-----” on."
        ) from error


def sign(secret: str, timestamp: str, content: bytes) -> str:
    """Return the signature of a body or a query, in hex."""
    return hmac.new(secret.encode("ascii"), timestamp.encode("ascii") + b"." + content, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class WebhookConnector:
    """The URL of the script, the key that signs requests to it, and how to connect."""

    url: str
    key_id: str
    secret: str = field(repr=False)
    network: Network = field(default=LIMITS, repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)

    kind: ClassVar[str] = "webhook"
    label: ClassVar[str] = "Signed webhook"
    summary: ClassVar[str] = (
        "Changes get here by themselves: new certificates are sent to its webhook at the agreed moment, and "
        "it is asked what it uses. Private keys are not sent."
    )
    signs_per_partner: ClassVar[bool] = True
    sends_keys: ClassVar[bool] = False
    holds_two: ClassVar[bool] = True

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> WebhookConnector:
        """Return the connector for a system's `config` and its secret. Raises ConnectorError for an unusable one.

        The keys of `config` are "webhook_url", "webhook_key_id", and "webhook_ca" with CA certificates as PEM.
        """
        url, key_id = str(config.get("webhook_url") or ""), str(config.get("webhook_key_id") or "")
        secret = credentials.get("webhook_secret", "")
        allowed = tuple(settings.AS2CERTS_CONNECTOR_NETWORKS)
        check_url(url, allowed)
        check_key_id(key_id)
        check_secret(secret)
        network = replace(
            LIMITS,
            allowed=allowed,
            proxy=settings.AS2CERTS_CONNECTOR_PROXY,
            ca_certificates=str(config.get("webhook_ca") or ""),
        )
        return cls(url, key_id, secret, network)

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return no lead: the script answers that a change is stored and not in use yet."""
        return Lead()

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return that the change is sent again."""
        return "The same change is sent to the webhook again, with the same operation."

    @property
    def shows_use(self) -> bool:
        """Whether the system can be asked: always, since the script answers what it uses."""
        return True

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return what the system uses in each role. Raises ConnectorError."""
        return reported_use.held_certificates(self._report_of(change))

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Ask the script, and compare its answer with the change. Raises ConnectorError."""
        return reported_use.connector_state(self._report_of(change), change)

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the certificates of each role as the script answers them. Raises ConnectorError."""
        return reported_use.to_checkpoint(self._report_of(change))

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Ask the script whether the system uses the change."""
        try:
            return reported_use.verify(self._report_of(change), change, self._where)
        except ConnectorUnreachable as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error), wait=error.wait)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))

    def difference(self, change: ConnectorChange) -> Sequence[str]:
        """Return the JSON that would be sent."""
        return json.dumps(_payload(change), indent=2).splitlines()

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Ask the script what the system holds, and send the change unless it is there already."""
        try:
            report = self._report_of(change)
        except ConnectorUnreachable as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error), wait=error.wait)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.RETRYABLE, f"{error} Nothing was sent.")
        match reported_use.connector_state(report, change):
            case ConnectorState.NEW:
                message = f"{self._where} has {name_certificate(change.new)} for {name_roles(change)} already."
                return ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, message)
            case ConnectorState.STORED:
                return reported_use.verify(report, change, self._where)
            case ConnectorState.DRIFT:
                message = reported_use.describe_drift(report, change, self._where)
                return ConnectorResult(ConnectorOutcome.REJECTED, f"{message} Nothing was sent.")
        return self._send(change)

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Send a change that the system has once more, with the same operation."""
        try:
            state = self.state(change)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, f"{error} Nothing was sent.")
        if state not in (ConnectorState.NEW, ConnectorState.STORED):
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"{self._where} no longer has what this step sent: a later change is the one to repeat.",
            )
        return self._send(change)

    def used(self, baseline: Baseline) -> StationUse:
        """Ask the script what the system uses; it answers fingerprints only. Raises ConnectorError."""
        report = self._report(baseline.side, baseline.as2_id, baseline.roles, operation=baseline.operation)
        return reported_use.station_use(report, self._where)

    def check(self) -> ConnectorResult:
        """Ask the script about no station: that shows that it answers and accepts the signature."""
        try:
            self._ask({"side": "own", "as2_id": "", "partner": "", "roles": "", "operation": ""})
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        return ConnectorResult(
            ConnectorOutcome.APPLIED, f"{self._where} answers, and accepts requests signed with the key {self.key_id}."
        )

    @property
    def _where(self) -> str:
        target = read_url(self.url)
        return f"The webhook at {target.host_header}"

    def _report_of(self, change: ConnectorChange) -> Report:
        return self._report(
            change.side, change.as2_id, change.moves, partner=change.partner, operation=change.operation
        )

    def _report(self, side: str, as2_id: str, roles: Mapping[str, Any], *, partner: str = "", operation: str) -> Report:
        """Return what the script answers about a station. Raises ConnectorError."""
        names = sorted(roles)
        query = {"side": side, "as2_id": as2_id, "partner": partner, "roles": ",".join(names), "operation": operation}
        found = parse_answer(self._ask(query))
        for role in names:
            if role not in found:
                raise ConnectorError(
                    f"{self._where} answers nothing about the role {role}: it has to answer {_ANSWER}."
                )
        return {
            role: replace(found[role], failed={one: self._readable(why) for one, why in found[role].failed.items()})
            for role in names
        }

    def _ask(self, query: Mapping[str, str]) -> bytes:
        """Return the body of the answer to a query. Raises ConnectorError if there is none that can be used."""
        url = f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(query)}"
        try:
            asked = read_url(url).path.partition("?")[2].encode("ascii")
            answer = fetch(url, Headers(tuple(self._signed(asked))), self.network)
        except AddressRefused as error:
            raise ConnectorError(str(error)) from error
        if isinstance(answer, NoAnswer):
            raise ConnectorUnreachable(f"{self._where} could not be asked what is in use: {answer.detail}.")
        if answer.status in _BUSY:
            raise ConnectorUnreachable(
                f"{self._where} is busy (HTTP {answer.status}).", read_retry_after(answer.headers.get("Retry-After"))
            )
        if answer.status in _SIGNATURE_REFUSED:
            raise ConnectorError(
                f"{self._where} refuses requests signed with the key {self.key_id} (HTTP {answer.status}): compare key "
                "ID, secret and clock on both sides."
            )
        if answer.status != 200 or not answer.is_complete:
            broken = "" if answer.is_complete else ", and the answer is cut off"
            raise ConnectorError(
                f"{self._where} does not answer what is in use (HTTP {answer.status}{broken}){self._reason(answer)}"
            )
        return answer.body

    def _send(self, change: ConnectorChange) -> ConnectorResult:
        body = json.dumps(_payload(change), separators=(",", ":")).encode("ascii")
        extra = [("Content-Type", "application/json"), ("Idempotency-Key", change.operation)]
        try:
            answer = send(self.url, Headers((*self._signed(body), *extra)), body, self.network)
        except AddressRefused as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} Nothing was sent.")
        if isinstance(answer, NoAnswer):
            return self._lost(answer)
        return self._result(answer, change)

    def _lost(self, answer: NoAnswer) -> ConnectorResult:
        if answer.is_request_sent:
            message = f"{self._where} got the change, but its answer was lost ({answer.detail}): it is asked first."
            return ConnectorResult(ConnectorOutcome.UNKNOWN, message)
        return ConnectorResult(
            ConnectorOutcome.UNREACHABLE, f"{self._where} could not be reached: {answer.detail}. Nothing was changed."
        )

    def _result(self, answer: Answer, change: ConnectorChange) -> ConnectorResult:
        status, what = answer.status, f"{name_certificate(change.new)} for {name_roles(change)}"
        if status == 202:
            return ConnectorResult(
                ConnectorOutcome.PENDING, f"{self._where} has accepted {what}, and does not use it yet."
            )
        if 200 <= status < 300:
            return ConnectorResult(ConnectorOutcome.APPLIED, f"{self._where} has taken {what}.")
        reason = self._reason(answer)
        if status in _BUSY:
            return ConnectorResult(
                ConnectorOutcome.RETRYABLE,
                f"{self._where} is busy (HTTP {status}){reason}",
                wait=read_retry_after(answer.headers.get("Retry-After")),
            )
        if 300 <= status < 400:
            reason = ": redirects are not followed. Enter the address that it redirects to, if that is right."
        if status < 500:
            return ConnectorResult(
                ConnectorOutcome.REJECTED, f"{self._where} refuses the change (HTTP {status}){reason}"
            )
        message = f"{self._where} failed (HTTP {status}), so it is asked first what it holds{reason}"
        return ConnectorResult(ConnectorOutcome.UNKNOWN, message)

    def _signed(self, content: bytes) -> list[tuple[str, str]]:
        timestamp = str(int(self.clock()))
        return [
            ("X-AS2Certs-Key", self.key_id),
            ("X-AS2Certs-Timestamp", timestamp),
            ("X-AS2Certs-Signature", sign(self.secret, timestamp, content)),
        ]

    def _reason(self, answer: Answer) -> str:
        """Return the end of a sentence with the beginning of an answer, without the secret."""
        text = self._readable(answer.body.decode("utf-8", "replace"))
        return f": {text}" if text else "."

    def _readable(self, text: str) -> str:
        return readable_reason(text, self.secret)


def _payload(change: ConnectorChange) -> dict[str, Any]:
    """Return a change as JSON of public material."""
    return {
        "schema": 1,
        "operation": change.operation,
        "phase": hook_phase(change),
        "side": change.side,
        "as2_id": change.as2_id,
        "partner": change.partner,
        "moves": dict(change.moves),
        "activate_at": _moment(change.active_at) if change.active_at else None,
        "new": _public(change.new),
        "old": _public(change.old) if change.old else None,
    }


def _public(certificate: InstallableCertificate) -> dict[str, str]:
    return {
        "certificate_pem": certificate.certificate_pem.decode("ascii"),
        "chain_pem": certificate.chain_pem.decode("ascii"),
        "fingerprint_sha256": certificate.sha256,
        "serial": str(certificate.serial),
        "not_before": _moment(certificate.not_before),
        "not_after": _moment(certificate.not_after),
    }


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse_answer(body: bytes) -> dict[str, RoleReport]:
    """Return what a script answers about each role. Raises ConnectorError for anything but the documented JSON."""
    try:
        found = json.loads(body)
        roles = found["roles"]
        if len(roles) > MAX_ROLES:
            raise ValueError
        return {str(role): _parse_role(entries) for role, entries in roles.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConnectorError(f"The webhook answers something else than {_ANSWER}.") from error


def _parse_role(entries: Any) -> RoleReport:
    if not isinstance(entries, list) or len(entries) > MAX_CERTIFICATES:
        raise ValueError
    by_state: dict[str, dict[str, str]] = {"in_use": {}, "stored": {}, "failed": {}}
    for entry in entries:
        fingerprint = entry["fingerprint_sha256"].replace(":", "").lower()
        if not _SHA256.fullmatch(fingerprint):
            raise ValueError
        by_state[entry["state"]][fingerprint] = str(entry.get("reason") or "no reason given")
    return RoleReport(tuple(by_state["in_use"]), tuple(by_state["stored"]), by_state["failed"])
