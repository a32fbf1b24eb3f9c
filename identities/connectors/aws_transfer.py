"""Change the certificates of AS2 profiles in AWS Transfer Family, over its API with boto3.

A profile lists certificates, and each certificate is imported for one usage: signing or encryption. So a change is:

1. Read the profile and its certificates.
2. Import the certificate for each usage that lacks it, unless the account has the same one for the same usage.
3. Replace the list of the profile in one call. What reads keeps the old certificate in the list until it is retired;
   what writes gets the new one in its place, so that there is never a choice between two.

boto3 repeats no call: an import has no idempotency token, so a lost answer is followed by a read.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

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
from identities.connectors.comparison import READER_ROLES, name_certificate, name_roles
from identities.connectors.remote_calls import (
    AnswerLost,
    ChangeRejected,
    parse_station_ids,
    pem_der,
    private_key_pem,
    readable_reason,
    to_result,
)
from identities.connectors.reported_use import Report, RoleReport

USAGES: Mapping[str, str] = {
    "sign": "SIGNING",
    "decrypt": "ENCRYPTION",
    "verify": "SIGNING",
    "encrypt": "ENCRYPTION",
}
"""For which usage a certificate is imported, by role."""
PROFILE_TYPES = {"own": "LOCAL", "partner": "PARTNER"}
CERTIFICATE_TYPES = {"own": "CERTIFICATE_WITH_PRIVATE_KEY", "partner": "CERTIFICATE"}
MAX_PER_PROFILE = 10
MAX_DESCRIBED = 500
"""How many certificates of an account are looked at for the one that is wanted."""
NOT_INSTALLED = (
    "AWS Transfer Family needs boto3, which is not installed: install what requirements-aws.txt names, and restart."
)

_MAKING_CLIENTS = threading.Lock()
"""Threads share the session of boto3, which makes one client at a time."""
_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2}")
_PROFILE_ID = re.compile(r"p-[0-9a-f]{17}")
_BUSY = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})


def check_region(region: str) -> None:
    """Raise ConnectorError for a text that is no name of a region."""
    if not _REGION.fullmatch(region):
        raise ConnectorError("A region of AWS is written such as eu-central-1.")


def parse_profiles(text: str) -> dict[str, str]:
    """Return the profile IDs by side and AS2 ID, from lines such as "own ACME-PROD p-0123456789abcdef0".

    Raises ConnectorError for a line that is none.
    """
    found = parse_station_ids(text, _PROFILE_ID, "profile", "partner NORTHWIND p-0123456789abcdef0")
    return {station: ids[-1] for station, ids in found.items()}


@dataclass(frozen=True)
class _Held:
    """A certificate that AWS has: its ID, its DER, usage, type and status. `der` is empty if AWS does not show it."""

    certificate_id: str
    der: bytes = field(repr=False)
    usage: str
    kind: str
    status: str

    @property
    def sha256(self) -> str:
        """Return the SHA-256 in hex; "" if AWS does not show the certificate."""
        return hashlib.sha256(self.der).hexdigest() if self.der else ""


@dataclass(frozen=True)
class _Profile:
    """A profile, with the IDs of its certificates in their order."""

    profile_id: str
    certificates: tuple[_Held, ...]

    @property
    def ids(self) -> list[str]:
        return [one.certificate_id for one in self.certificates]

    def report(self, roles: Mapping[str, Any], old: InstallableCertificate | None = None) -> Report:
        """Return what is in use in each role; of inactive certificates only the old one, which a change removes."""
        return {role: self._role(USAGES[role], old.sha256 if old else None) for role in roles}

    def _role(self, usage: str, old: str | None) -> RoleReport:
        mine = [one for one in self.certificates if one.usage == usage]
        used = tuple(dict.fromkeys(one.sha256 for one in mine if one.status == "ACTIVE"))
        waiting = (one for one in mine if one.status == "PENDING_ROTATION" or one.sha256 == old)
        return RoleReport(used, tuple(dict.fromkeys(one.sha256 for one in waiting if one.sha256 not in used)))


@dataclass(frozen=True)
class AwsTransferConnector:
    """A region of AWS, and the IDs of profiles that are not found by their AS2 ID alone."""

    region: str
    profiles: Mapping[str, str] = field(default_factory=dict)

    kind: ClassVar[str] = "aws_transfer"
    label: ClassVar[str] = "AWS Transfer Family"
    summary: ClassVar[str] = (
        "Changes get here by themselves: new certificates and keys are imported and listed in AS2 profiles at "
        "the agreed moment, and read back."
    )
    signs_per_partner: ClassVar[bool] = False
    sends_keys: ClassVar[bool] = True
    holds_two: ClassVar[bool] = True

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> AwsTransferConnector:
        """Return the connector for a system's `config`; boto3 finds the credentials itself. Raises ConnectorError.

        The keys of `config` are "aws_region" and "aws_profiles", with lines for `parse_profiles`.
        """
        region = str(config.get("aws_region") or "")
        check_region(region)
        return cls(region, parse_profiles(str(config.get("aws_profiles") or "")))

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return no lead: AWS uses what a profile lists at once."""
        return Lead()

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return nothing: AWS uses what its profiles list, and needs no notification."""
        return ""

    @property
    def shows_use(self) -> bool:
        """Whether the system can be asked: always, by the status of each certificate."""
        return True

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return the active certificates of each role. Raises ConnectorError."""
        return reported_use.held_certificates(
            self._profile(change.side, change.as2_id).report(change.moves, change.old)
        )

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Compare the profile with the change. Raises ConnectorError."""
        return reported_use.connector_state(
            self._profile(change.side, change.as2_id).report(change.moves, change.old), change
        )

    def difference(self, change: ConnectorChange) -> Sequence[str]:
        """Return nothing: the lists of the profiles are the roles."""
        return ()

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the list of the profile before the change. Raises ConnectorError."""
        profile = self._profile(change.side, change.as2_id)
        return {"profile": profile.profile_id, "certificates": profile.ids}

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the profile and the status of its certificates."""
        try:
            profile = self._profile(change.side, change.as2_id)
        except ConnectorUnreachable as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error), wait=error.wait)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))
        return reported_use.verify(profile.report(change.moves, change.old), change, self._where(profile))

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Import what is missing, and replace the list of the profile."""
        try:
            return self._apply(change)
        except ChangeRejected as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} The profile is as it was.")
        except ConnectorError as error:
            return to_result(error)

    def _apply(self, change: ConnectorChange) -> ConnectorResult:
        if change.partner:
            raise ChangeRejected("A profile of AWS Transfer Family signs for all partners with the same certificate.")
        profile = self._profile(change.side, change.as2_id)
        report, where = profile.report(change.moves, change.old), self._where(profile)
        match reported_use.connector_state(report, change):
            case ConnectorState.STORED:
                return reported_use.verify(report, change, where)
            case ConnectorState.NEW:
                message = f"{where} uses {name_certificate(change.new)} for {name_roles(change)} already."
                return ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, message)
            case ConnectorState.DRIFT:
                raise ChangeRejected(reported_use.describe_drift(report, change, where))
        _check_limit(profile, change, where)
        new_ids = {role: self._ensure_imported(change, role) for role in _roles_to_add(change)}
        before = self._profile(change.side, change.as2_id)
        if before.ids != profile.ids:
            raise ConnectorError(f"{where} was changed by somebody else meanwhile: it is read again.")
        ids = _ids_after(profile, change, new_ids)
        self._call("update_profile", "ProfileId", ProfileId=profile.profile_id, CertificateIds=ids)
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{where} lists {name_certificate(change.new)} for {name_roles(change)}, {len(ids)} certificates in all.",
        )

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Read the profile again: AWS needs no notification of what its profiles list."""
        return self.verify(change)

    def used(self, baseline: Baseline) -> StationUse:
        """Return the active certificates that the profile lists. Raises ConnectorError."""
        profile = self._profile(baseline.side, baseline.as2_id)
        shown = {one.sha256: one.der for one in profile.certificates if one.der}
        return reported_use.station_use(profile.report(baseline.roles), self._where(profile), shown)

    def check(self) -> ConnectorResult:
        """Read the first profiles: that shows that credentials, region and network are right."""
        try:
            found = self._call("list_profiles", "Profiles", MaxResults=10)["Profiles"]
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        count = f"{len(found)}{' or more' if len(found) == 10 else ''} AS2 profiles"
        return ConnectorResult(ConnectorOutcome.APPLIED, f"AWS Transfer Family in {self.region} has {count}.")

    def _where(self, profile: _Profile) -> str:
        return f"AWS Transfer Family ({self.region}, {profile.profile_id})"

    def _profile(self, side: Literal["own", "partner"], as2_id: str) -> _Profile:
        """Return the profile of a station with its certificates. Raises ConnectorError."""
        profile_id = self.profiles.get(f"{side} {as2_id}") or self._find_profile(side, as2_id)
        found = self._call("describe_profile", "Profile", ProfileId=profile_id)["Profile"]
        if (found.get("ProfileType"), found.get("As2Id")) != (PROFILE_TYPES[side], as2_id):
            raise ChangeRejected(
                f"The profile {profile_id} is {found.get('ProfileType')} with the AS2 ID {found.get('As2Id')}, not "
                f"{PROFILE_TYPES[side]} with {as2_id}: correct the profiles of this AS2 system."
            )
        held = tuple(self._describe(one) for one in found.get("CertificateIds") or ())
        return _Profile(profile_id, held)

    def _find_profile(self, side: Literal["own", "partner"], as2_id: str) -> str:
        listed = self._pages("list_profiles", "Profiles", ProfileType=PROFILE_TYPES[side])
        found = [one["ProfileId"] for one in listed if one.get("As2Id") == as2_id]
        if len(found) != 1:
            raise ChangeRejected(
                f"AWS Transfer Family in {self.region} has {len(found) or 'no'} {PROFILE_TYPES[side]} "
                f"{'profiles' if found else 'profile'} with the AS2 ID {as2_id}: "
                f"{'name the right one in' if found else 'make it there, or correct'} the form of this AS2 system."
            )
        return str(found[0])

    def _describe(self, certificate_id: str) -> _Held:
        found = self._call("describe_certificate", "Certificate", CertificateId=certificate_id)["Certificate"]
        return _Held(
            certificate_id,
            pem_der(found.get("Certificate") or ""),
            str(found.get("Usage")),
            str(found.get("Type")),
            str(found.get("Status")),
        )

    def _ensure_imported(self, change: ConnectorChange, role: str) -> str:
        """Return the ID of the new certificate for the usage of a role, imported if the account lacks it."""
        found = self._find_imported(change, role)
        if found is None:
            return self._import(change, role)
        if found.status == "INACTIVE":  # its dates were moved: it becomes active as soon as it is valid
            new = change.new
            self._call(
                "update_certificate",
                "CertificateId",
                CertificateId=found.certificate_id,
                ActiveDate=new.not_before,
                InactiveDate=new.not_after,
            )
        return found.certificate_id

    def _find_imported(self, change: ConnectorChange, role: str) -> _Held | None:
        """Return the new certificate as the account has it for the usage of a role, those of ours first."""
        kind, usage = CERTIFICATE_TYPES[change.side], USAGES[role]
        listed = [
            one
            for one in self._pages("list_certificates", "Certificates")
            if (one.get("Usage"), one.get("Type")) == (usage, kind)
        ]
        ours = _description(change)[:_MARK_LENGTH]
        listed.sort(key=lambda one: not str(one.get("Description") or "").startswith(ours))
        for one in listed[:MAX_DESCRIBED]:
            if (held := self._describe(one["CertificateId"])).sha256 == change.new.sha256:
                return held
        return None

    def _import(self, change: ConnectorChange, role: str) -> str:
        new = change.new
        material: dict[str, Any] = {
            "Usage": USAGES[role],
            "Certificate": new.certificate_pem.decode("ascii"),
            "ActiveDate": new.not_before,
            "InactiveDate": new.not_after,
            "Description": _description(change),
        }
        if new.chain_pem.strip():
            material["CertificateChain"] = new.chain_pem.decode("ascii")
        if change.side == "own":
            material["PrivateKey"] = private_key_pem(new, "AWS")
        return str(self._call("import_certificate", "CertificateId", **material)["CertificateId"])

    def _pages(self, name: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._call(name, key, **arguments, **token)
            yield from page[key]
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _call(self, name: str, key: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to one call, which has `key`. Raises a ConnectorError that says whether it had an effect.

        boto3 takes an answer that it can't read for an empty one.
        """
        with _explaining(name, self.region):
            answer: dict[str, Any] = getattr(self._client, name)(**arguments)
        if key not in answer:
            raise _without_answer(name, self.region, "an answer that can't be read")
        return answer

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise ConnectorError(NOT_INSTALLED) from error
        config = Config(
            retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, parameter_validation=True
        )
        with _MAKING_CLIENTS:
            return boto3.client("transfer", region_name=self.region, config=config)


@contextmanager
def _explaining(name: str, region: str) -> Iterator[None]:
    """Raise ConnectorError in place of the errors of boto3; none of its messages holds an argument of ours."""
    try:
        from botocore import exceptions
    except ImportError as error:
        raise ConnectorError(NOT_INSTALLED) from error
    where = f"AWS Transfer Family in {region}"
    try:
        yield
    except exceptions.ClientError as error:
        answer = error.response
        code, status = answer["Error"].get("Code", ""), answer["ResponseMetadata"].get("HTTPStatusCode", 0)
        text = f"{where} answers {name} with {code}: {readable_reason(answer['Error'].get('Message', ''))}"
        if code in _BUSY or status in (429, 503):
            raise ConnectorUnreachable(text) from None
        if status >= 500:
            raise (AnswerLost(text) if _writes(name) else ConnectorUnreachable(text)) from None
        raise ChangeRejected(text) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError):
        raise ConnectorError(
            f"{where}: boto3 finds no credentials. Give the machine a role, or set AWS_PROFILE for this application."
        ) from None
    except (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ProxyConnectionError,
        exceptions.SSLError,
    ) as error:
        raise ConnectorUnreachable(f"{where} can't be reached ({type(error).__name__}).") from None
    except exceptions.ParamValidationError:
        raise ChangeRejected(
            f"{where} can't be asked for {name} with this certificate: it is too long or has other characters."
        ) from None
    except exceptions.BotoCoreError as error:
        raise _without_answer(name, region, type(error).__name__) from None


def _writes(name: str) -> bool:
    return not name.startswith(("list_", "describe_"))


def _without_answer(name: str, region: str, why: str) -> ConnectorError:
    """Return the error of a call that was sent and not answered: what changes something may have had its effect."""
    text = f"AWS Transfer Family in {region} gave no usable answer to {name} ({why})."
    return AnswerLost(f"{text} It is asked first what it holds.") if _writes(name) else ConnectorUnreachable(text)


def _roles_to_add(change: ConnectorChange) -> list[str]:
    return [role for role, move in change.moves.items() if move != "drop"]


def _ids_after(profile: _Profile, change: ConnectorChange, new_ids: Mapping[str, str]) -> list[str]:
    """Return the list of the profile after the change; `new_ids` has the new certificate by role."""
    leaving = {USAGES[role] for role, move in change.moves.items() if move == "drop" or role not in READER_ROLES}
    old = change.old.sha256 if change.old else None
    kept = [one.certificate_id for one in profile.certificates if not (one.usage in leaving and one.sha256 == old)]
    return list(dict.fromkeys([*kept, *new_ids.values()]))


def _check_limit(profile: _Profile, change: ConnectorChange, where: str) -> None:
    """Raise an error before anything is imported if the profile would list too many certificates."""
    count = len(_ids_after(profile, change, {role: f"new {role}" for role in _roles_to_add(change)}))
    if count > MAX_PER_PROFILE:
        raise ChangeRejected(
            f"{where} would list {count} certificates, and AWS takes {MAX_PER_PROFILE}: take some out of it that are "
            "not used any more, then try again."
        )


_MARK_LENGTH = len("as2certs:") + 16


def _description(change: ConnectorChange) -> str:
    """Return the description of an import without spaces, by which it is recognized: fingerprint and operation."""
    operation = re.sub(r"[^!-~]", "_", change.operation)
    return f"as2certs:{change.new.sha256[:16]}:{operation}"[:200]
