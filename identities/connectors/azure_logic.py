"""Change the certificates of AS2 agreements in an integration account of Azure Logic Apps, over Azure's REST API.

An agreement is between one of our AS2 IDs (host) and a partner's (guest), and names a certificate of the account for
each purpose. So a change is:

1. Read the agreements of the station, and the certificates of the account.
2. Add the certificate to the account unless it is there. The private key of ours goes into Key Vault, to which the
   certificate refers.
3. Read each agreement again, and replace it as a whole with the new name, if nobody else has changed it meanwhile.

Requests and answers are JSON as Azure defines it, so that what is written back has all that was read, also what is
unknown here. azure-core sends them and repeats none; azure-identity finds the credentials.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs12

from as2certs import pki
from as2certs.pki.describing import load_der, load_pem
from identities.connectors import reported_use
from identities.connectors.azure_api import AzureApi, check_account, check_vault
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
from identities.connectors.comparison import name_certificate, name_roles
from identities.connectors.remote_calls import (
    AnswerLost,
    ChangeRejected,
    add_detail,
    list_some,
    pem_sha256,
    to_result,
)
from identities.connectors.reported_use import Report, RoleReport
from identities.connectors.station_folder import BROKEN_LINK

PLACES: Mapping[str, tuple[str, str]] = {
    "decrypt": ("receiveAgreement", "encryptionCertificateName"),
    "sign": ("sendAgreement", "signingCertificateName"),
    "verify": ("receiveAgreement", "signingCertificateName"),
    "encrypt": ("sendAgreement", "encryptionCertificateName"),
}
"""Where an agreement names the certificate of each role: its half, and the name of the security setting there."""
_KEY_ID = re.compile(r"https?://[^/]+/keys/([0-9A-Za-z-]{1,127})/([0-9a-fA-F]{32})")


def parse_names(text: str) -> frozenset[str]:
    """Return the names of agreements, one a line."""
    return frozenset(filter(None, map(str.strip, text.splitlines())))


@dataclass(frozen=True)
class _Agreement:
    """An AS2 agreement as JSON, with its ETag, if it has one."""

    data: Mapping[str, Any] = field(repr=False)
    etag: str = ""

    @property
    def name(self) -> str:
        return str(self.data["name"])

    @property
    def host(self) -> str:
        return _identity(self.data, "hostIdentity")

    @property
    def guest(self) -> str:
        return _identity(self.data, "guestIdentity")

    def used(self, role: str) -> str:
        """Return the name of the certificate of a role; "" if there is none."""
        half, setting = PLACES[role]
        return str(_settings(self.data, half).get(setting) or "")

    def with_certificate(self, roles: Iterable[str], name: str) -> dict[str, Any]:
        """Return the agreement as it is written with another certificate, without what only Azure writes."""
        data = copy.deepcopy(dict(self.data))
        for role in roles:
            half, setting = PLACES[role]
            _settings(data, half)[setting] = name
        properties = {key: one for key, one in data["properties"].items() if key not in ("createdTime", "changedTime")}
        kept = {key: one for key, one in data.items() if key not in ("id", "name", "type", "etag")}
        return kept | {"properties": properties}


@dataclass(frozen=True)
class _Certificate:
    """A certificate of the account: its name, the SHA-256 of its DER, and whether it refers to a private key."""

    name: str
    sha256: str
    has_key: bool


@dataclass(frozen=True)
class _Account:
    """What was read of the account: the agreements of a station, and all certificates by their name."""

    agreements: tuple[_Agreement, ...]
    certificates: Mapping[str, _Certificate]

    def report(self, agreement: _Agreement, roles: Iterable[str]) -> Report:
        """Return the certificate that an agreement names for each role."""
        return {role: RoleReport(self._held(agreement.used(role))) for role in roles}

    def _held(self, name: str) -> tuple[str, ...]:
        if not name:
            return ()
        found = self.certificates.get(name.lower())
        return (found.sha256 if found else BROKEN_LINK,)

    def state(self, change: ConnectorChange) -> ConnectorState:
        return reported_use.combine_states(
            [reported_use.connector_state(self.report(one, change.moves), change) for one in self.agreements]
        )


@dataclass(frozen=True)
class AzureLogicConnector:
    """The API of an account and a key vault, and the names of the only agreements to change; none is all."""

    api: AzureApi
    only: frozenset[str] = frozenset()

    kind: ClassVar[str] = "azure_logic"
    label: ClassVar[str] = "Azure Logic Apps"
    summary: ClassVar[str] = (
        "Changes get here by themselves: new certificates are added to the integration account, and agreements name "
        "them at the agreed moment. Keys go into Key Vault."
    )
    signs_per_partner: ClassVar[bool] = True
    sends_keys: ClassVar[bool] = True
    holds_two: ClassVar[bool] = False

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> AzureLogicConnector:
        """Return the connector for a system's `config`; azure-identity finds the credentials. Raises ConnectorError.

        The keys of `config` are "azure_account", "azure_vault", and "azure_agreements" with a name a line.
        """
        account, vault = str(config.get("azure_account") or ""), str(config.get("azure_vault") or "")
        check_account(account)
        check_vault(vault)
        return cls(AzureApi(account, vault), parse_names(str(config.get("azure_agreements") or "")))

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return no lead: Logic Apps uses what an agreement names at once."""
        return Lead()

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return nothing: Logic Apps needs no notification."""
        return ""

    @property
    def shows_use(self) -> bool:
        """Whether the system can be asked: always, since an agreement names the certificate that is used."""
        return True

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return the certificates that the agreements name in each role. Raises ConnectorError."""
        account = self._read(change)
        found: dict[str, RoleReport] = {}
        for role in change.moves:
            held = [one for agreement in account.agreements for one in account.report(agreement, [role])[role].in_use]
            found[role] = RoleReport(tuple(dict.fromkeys(held)))
        return reported_use.held_certificates(found)

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Compare each agreement with the change. Raises ConnectorError."""
        return self._read(change).state(change)

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the names of certificates in the agreements before the change. Raises ConnectorError."""
        agreements = self._read(change).agreements
        return {"agreements": {one.name: {role: one.used(role) for role in change.moves} for one in agreements}}

    def difference(self, change: ConnectorChange) -> tuple[str, ...]:
        """Return what applying the change would do, as sentences. Raises ConnectorError."""
        account = self._read(change)
        self._check_possible(account, change)
        found = _find_certificate(account, change)
        name = found.name if found else artifact_name(change.new)
        lines = [] if found else [f"The certificate {name} is added to the account."]
        if not found and change.side == "own":
            lines.append(f"{self.api.vault_name} takes its private key.")
        for one in account.agreements:
            lines += [
                f"The agreement {one.name} names {name} in place of {one.used(role) or 'nothing'} for {role}."
                for role in change.moves
                if account.report(one, [role])[role].in_use != (change.new.sha256,)
            ]
        return tuple(lines)

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the agreements, and compare what they name with the change."""
        try:
            account = self._read(change)
        except ConnectorUnreachable as error:
            return to_result(error)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))
        results = [
            reported_use.verify(account.report(one, change.moves), change, self._where(one))
            for one in account.agreements
        ]
        if bad := next((one for one in results if not one.outcome.good), None):
            return bad
        used = f"{name_certificate(change.new)} for {name_roles(change)}"
        return ConnectorResult(
            ConnectorOutcome.APPLIED, f"{self._agreements(account)} use {used}, by their own settings.", in_use=True
        )

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Add the certificate if it is missing, and let the agreements name it."""
        try:
            return self._apply(change)
        except ConnectorError as error:
            return to_result(error)

    def _apply(self, change: ConnectorChange) -> ConnectorResult:
        account = self._read(change)
        self._check_possible(account, change)
        what = f"{name_certificate(change.new)} for {name_roles(change)}"
        if account.state(change) is ConnectorState.NEW:
            return ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, f"{self._agreements(account)} use {what} already.")
        name = self._ensure_certificate(account, change)
        missing = [one for one in account.agreements if _differs(account, one, change)]
        for done, one in enumerate(missing):
            try:
                self._write_agreement(one, change, name)
            except ConnectorError as error:
                if not done:
                    raise
                raise add_detail(error, f"{done} of {len(missing)} agreements were changed before.") from None
        return ConnectorResult(ConnectorOutcome.APPLIED, f"{self._agreements(account)} name {name} now: {what}.")

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Read the agreements again: Logic Apps needs no notification."""
        return self.verify(change)

    def used(self, baseline: Baseline) -> StationUse:
        """Return the certificates that each agreement names. Raises ConnectorError."""
        account = self._read(baseline)
        found = []
        for one in account.agreements:
            use = reported_use.station_use(account.report(one, baseline.roles), self._where(one))
            chosen = one.guest if one.guest in baseline.choices else ""
            found += [replace(role, partner=chosen) if role.role == "sign" else role for role in use.roles]
        return StationUse(tuple(found))

    def check(self) -> ConnectorResult:
        """Read agreements, certificates and key vault: that shows that credentials, rights and names are right."""
        try:
            agreements, certificates = self._list_agreements(), self._list_certificates()
            if self.api.vault:
                self.api.call("GET", self.api.in_vault("certificates/as2certs-check"), may_lack=True)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        names = [one.name for one in agreements]
        if missing := sorted(self.only - set(names)):
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"{self.api.name} has no AS2 agreement {list_some(missing)}. It has {list_some(names) or 'none'}: "
                "correct the form of this AS2 system.",
            )
        mine = [one for one in agreements if not self.only or one.name in self.only]
        dangling = [
            f"{one.name} ({used})"
            for one in mine
            for used in sorted({one.used(role) for role in PLACES} - {""})
            if used.lower() not in certificates
        ]
        if dangling:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"In {self.api.name}, agreements name certificates that it does not have: {list_some(dangling)}.",
            )
        vault = "" if self.api.vault else " Without a key vault, only certificates of partners can be changed."
        hosts = list_some(sorted({f"{one.host} with {one.guest}" for one in mine}))
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{self.api.name} has {len(mine)} AS2 agreements{hosts and f' ({hosts})'} and {len(certificates)} "
            f"certificates.{vault}",
        )

    def _where(self, agreement: _Agreement) -> str:
        return f"{self.api.name}, agreement {agreement.name}"

    def _agreements(self, account: _Account) -> str:
        return f"In {self.api.name}, the agreements {list_some([one.name for one in account.agreements])}"

    def _check_possible(self, account: _Account, change: ConnectorChange) -> None:
        """Raise ChangeRejected for what an agreement has no room for, a key without a vault, and drift."""
        if "add" in change.moves.values():
            raise ChangeRejected(
                "An agreement of Azure Logic Apps names one certificate for each purpose, so the old one is not "
                "accepted beside the new one: choose “no” in the form of this AS2 system for decrypting and verifying "
                "with two, and plan the change anew."
            )
        if change.side == "own" and not self.api.vault and _find_certificate(account, change) is None:
            raise ChangeRejected(
                "Azure Logic Apps takes private keys from Key Vault only: name a key vault in the form of this AS2 "
                "system."
            )
        for one in account.agreements:
            report = account.report(one, change.moves)
            if reported_use.connector_state(report, change) is ConnectorState.DRIFT:
                raise ChangeRejected(reported_use.describe_drift(report, change, self._where(one)))

    def _ensure_certificate(self, account: _Account, change: ConnectorChange) -> str:
        """Return the name of the new certificate in the account, which is added unless it is there."""
        if found := _find_certificate(account, change):
            return found.name
        new, name = change.new, artifact_name(change.new)
        there = account.certificates.get(name)
        if there and there.sha256 != new.sha256:
            raise ChangeRejected(f"{self.api.name} has another certificate under the name {name}: remove it there.")
        properties: dict[str, Any] = {
            "publicCertificate": base64.b64encode(_load(new).public_bytes(Encoding.DER)).decode("ascii")
        }
        if change.side == "own":
            properties["key"] = self._ensure_key(new, name)
        body = {"location": account.agreements[0].data.get("location"), "properties": properties}
        self.api.call(
            "PUT", self.api.logic(f"certificates/{name}"), body={key: one for key, one in body.items() if one}
        )
        return name

    def _ensure_key(self, new: InstallableCertificate, name: str) -> dict[str, Any]:
        """Return the reference to the private key in Key Vault, to which it is imported unless it is there."""
        found, _ = self.api.call("GET", self.api.in_vault(f"certificates/{name}"), may_lack=True)
        if not found:
            body = {"value": base64.b64encode(_pkcs12(new)).decode("ascii")}
            found, _ = self.api.call("POST", self.api.in_vault(f"certificates/{name}/import"), body=body)
        if _sha256(found.get("cer")) != new.sha256:
            raise ChangeRejected(
                f"{self.api.vault_name} has another certificate under the name {name}: remove it there."
            )
        key = _KEY_ID.fullmatch(str(found.get("kid") or ""))
        if key is None:
            raise ChangeRejected(f"{self.api.vault_name} shows no private key for {name}: remove it there.")
        return {"keyVault": {"id": self.api.vault}, "keyName": key[1], "keyVersion": key[2]}

    def _write_agreement(self, seen: _Agreement, change: ConnectorChange, name: str) -> None:
        """Let an agreement name the certificate; if that fails, look before anything else. Raises ConnectorError."""
        path = self.api.logic(f"agreements/{quote(seen.name, safe='')}")
        before = self._read_agreement(seen)
        if [before.used(role) for role in PLACES] != [seen.used(role) for role in PLACES]:
            raise ConnectorError(f"{self._where(seen)} was changed by somebody else meanwhile: it is read again.")
        try:
            body = before.with_certificate(change.moves, name)
            self.api.call("PUT", path, body=body, etag=before.etag)
        except ConnectorError as error:
            self._look_after_failure(before, change, name, error)

    def _look_after_failure(
        self, before: _Agreement, change: ConnectorChange, name: str, error: ConnectorError
    ) -> None:
        """Return if the agreement names the certificate all the same; else raise an error that says what is known."""
        try:
            found = self._read_agreement(before)
        except ConnectorError as second:
            raise AnswerLost(f"{error} What it names now could not be read either: {second}") from None
        if all(found.used(role).lower() == name.lower() for role in change.moves):
            return
        if [found.used(role) for role in PLACES] != [before.used(role) for role in PLACES]:
            raise ConnectorError(
                f"{self._where(before)} was changed by somebody else meanwhile: it is read again."
            ) from None
        raise add_detail(error, f"{self._where(before)} still names the old certificate.") from None

    def _read(self, item: ConnectorChange | Baseline) -> _Account:
        """Return the agreements of a station, and the certificates. Raises ConnectorError if there are none."""
        found = self._list_agreements()
        partner = item.partner if isinstance(item, ConnectorChange) else ""
        mine = tuple(
            one
            for one in found
            if (one.host if item.side == "own" else one.guest) == item.as2_id
            and (not partner or one.guest == partner)
            and (not self.only or one.name in self.only)
        )
        if not mine:
            between = f"{item.as2_id} and {partner}" if partner else item.as2_id
            raise ChangeRejected(
                f"{self.api.name} has no AS2 agreement with the {'host' if item.side == 'own' else 'guest'} identity "
                f"{between}: make it there, or correct the form of this AS2 system."
            )
        return _Account(mine, self._list_certificates())

    def _list_agreements(self) -> list[_Agreement]:
        found = self.api.read_all("agreements")
        return [_Agreement(one) for one in found if _is_as2(one)]

    def _list_certificates(self) -> dict[str, _Certificate]:
        """Return the certificates of the account by their names in small letters, which Azure does not tell apart."""
        found = {}
        for one in self.api.read_all("certificates"):
            name, properties = str(one.get("name")), one.get("properties")
            if not isinstance(properties, dict):
                raise ConnectorUnreachable(f"{self.api.name} gave no usable answer about the certificate {name}.")
            sha256 = _sha256(properties.get("publicCertificate"))
            found[name.lower()] = _Certificate(name, sha256, bool(properties.get("key")))
        return found

    def _read_agreement(self, agreement: _Agreement) -> _Agreement:
        data, etag = self.api.call("GET", self.api.logic(f"agreements/{quote(agreement.name, safe='')}"))
        if not _is_as2(data):
            raise ConnectorUnreachable(f"{self._where(agreement)} gave no usable answer.")
        return _Agreement(data, etag)


def artifact_name(certificate: InstallableCertificate) -> str:
    """Return under which name a certificate is added to the account and to the key vault: by its fingerprint."""
    return f"as2certs-{certificate.sha256[:32]}"


def _find_certificate(account: _Account, change: ConnectorChange) -> _Certificate | None:
    """Return the new certificate as the account has it, for our own side with a key; the one of ours first."""
    usable = [
        one
        for one in account.certificates.values()
        if one.sha256 == change.new.sha256 and (one.has_key or change.side == "partner")
    ]
    return min(usable, key=lambda one: one.name != artifact_name(change.new), default=None)


def _differs(account: _Account, agreement: _Agreement, change: ConnectorChange) -> bool:
    """Return whether an agreement does not name the new certificate for each role of the change."""
    report = account.report(agreement, change.moves)
    return any(one.in_use != (change.new.sha256,) for one in report.values())


def _is_as2(data: Mapping[str, Any]) -> bool:
    """Return whether this is an AS2 agreement with all that is read of it."""
    try:
        settings = [_settings(data, half) for half in ("receiveAgreement", "sendAgreement")]
        identities = [data["properties"][key] for key in ("hostIdentity", "guestIdentity")]
        is_as2 = data["properties"]["agreementType"] == "AS2" and isinstance(data["name"], str)
    except (KeyError, TypeError):
        return False
    return is_as2 and all(isinstance(one, dict) for one in (*settings, *identities))


def _settings(data: Mapping[str, Any], half: str) -> dict[str, Any]:
    found: dict[str, Any] = data["properties"]["content"]["aS2"][half]["protocolSettings"]["securitySettings"]
    return found


def _identity(data: Mapping[str, Any], key: str) -> str:
    """Return the AS2 ID of a side of an agreement; "" if it is known by something else."""
    found = data["properties"][key]
    return str(found.get("value") or "") if str(found.get("qualifier")).lower() == "as2identity" else ""


def _sha256(text: Any) -> str:
    """Return the SHA-256 of a certificate that Azure returns in Base64, as DER or PEM; else `BROKEN_LINK`."""
    try:
        content = base64.b64decode(str(text or ""), validate=True)
        if content.startswith(b"-----BEGIN"):
            return pem_sha256(content.decode("ascii", "replace")) or BROKEN_LINK
        return load_der(content).fingerprint(hashes.SHA256()).hex()
    except (ValueError, pki.PkiError):
        return BROKEN_LINK


def _load(certificate: InstallableCertificate) -> x509.Certificate:
    return load_pem(certificate.certificate_pem)[0]


def _pkcs12(certificate: InstallableCertificate) -> bytes:
    """Return a certificate with its private key as PKCS#12 without a password. Raises ChangeRejected."""
    if certificate.key is None:
        raise ChangeRejected(
            "The private key of this certificate is not here, and Key Vault needs it: import it first."
        )
    return pkcs12.serialize_key_and_certificates(None, certificate.key(), _load(certificate), None, NoEncryption())
