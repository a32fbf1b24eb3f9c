"""Change the certificates of AS2 stations and partners in Files.com, over its API with its own client, files-com.

A station or a partner has one certificate for all purposes and no room for a second one, so a change is one call:

1. Read the station or the partner.
2. Replace the certificate, of a station together with its private key, which Files.com never returns.
3. Read it again before anything else if the call failed: also an error may come after the effect.

The client repeats no call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal

from identities.connectors import reported_use
from identities.connectors.base import (
    ROLES,
    Baseline,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    ConnectorUnreachable,
    HeldCertificates,
    Lead,
    StationUse,
)
from identities.connectors.comparison import name_certificate, name_roles
from identities.connectors.remote_calls import (
    AnswerLost,
    ChangeRejected,
    add_detail,
    list_some,
    parse_station_ids,
    pem_sha256,
    private_key_pem,
    read_retry_after,
    readable_reason,
    to_result,
)
from identities.connectors.reported_use import Report, RoleReport

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 10, 30, 60
PAGE_SIZE = 1000
MAX_RECORDS = 20_000
"""How many stations or partners of a site are looked at for the ones that are wanted."""
NOT_INSTALLED = (
    "Files.com needs files-com, which is not installed: install what requirements-files-com.txt names, and restart."
)

_NOUNS = {"own": "station", "partner": "partner"}
_SITE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_API_KEY = re.compile(r"[A-Za-z0-9]{20,200}")
_RECORD_ID = re.compile(r"[1-9][0-9]{0,17}")
_BUSY = frozenset({429, 503})
_WEAK_LEVELS = frozenset({"none", "weak"})


def check_site(site: str) -> None:
    """Raise ConnectorError for a text that is not the first part of a site's address."""
    if not _SITE.fullmatch(site):
        raise ConnectorError("A site is the first part of its address, such as acme of acme.files.com.")


def check_api_key(api_key: str) -> None:
    """Raise ConnectorError for a text that can't be an API key."""
    if not _API_KEY.fullmatch(api_key):
        raise ConnectorError("An API key of Files.com has 20 to 200 letters and digits.")


def parse_records(text: str) -> dict[str, tuple[str, ...]]:
    """Return the IDs of stations and partners by side and AS2 ID, from lines such as "partner NORTHWIND 4711".

    Raises ConnectorError for a line that is none, and for a second station with the same AS2 ID.
    """
    found = parse_station_ids(text, _RECORD_ID, "station or partner", "partner NORTHWIND 4711")
    if several := [station for station, ids in found.items() if station.startswith("own ") and len(ids) > 1]:
        raise ConnectorError(f"“{several[0]}” is there twice: an identity has one station.")
    return found


@dataclass(frozen=True)
class _Record:
    """A station or a partner: its ID, its AS2 ID, the SHA-256 of its certificate, and how it checks a partner."""

    side: Literal["own", "partner"]
    record_id: int
    as2_id: str
    sha256: str
    mdn_level: str
    signature_level: str

    def report(self, roles: Mapping[str, Any]) -> Report:
        """Return what is in use in each role: the same in all."""
        return dict.fromkeys(roles, RoleReport((self.sha256,) if self.sha256 else ()))

    @property
    def doubts(self) -> list[str]:
        """Return what traffic with a partner does not prove, as sentences."""
        said = []
        if self.mdn_level in _WEAK_LEVELS:
            said.append(
                f"Files.com does not verify the signature of MDNs from {self.as2_id} (mdn_validation_level "
                f"{self.mdn_level}): a good MDN proves little."
            )
        if self.signature_level in _WEAK_LEVELS:
            said.append(
                f"Files.com accepts unsigned messages from {self.as2_id} (signature_validation_level "
                f"{self.signature_level}): a message that arrives proves little."
            )
        return said


@dataclass(frozen=True)
class FilesComConnector:
    """A site of Files.com, an API key, and the IDs of stations and partners that are not found by their AS2 ID alone.

    `base_url` is another address than that of the site.
    """

    site: str
    api_key: str = field(repr=False)
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    base_url: str = ""
    total_seconds: float = TOTAL_SECONDS

    kind: ClassVar[str] = "files_com"
    label: ClassVar[str] = "Files.com"
    summary: ClassVar[str] = (
        "Changes get here by themselves: certificates and keys of its AS2 stations and partners are replaced at the "
        "agreed moment, and read back."
    )
    signs_per_partner: ClassVar[bool] = False
    sends_keys: ClassVar[bool] = True
    holds_two: ClassVar[bool] = False

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> FilesComConnector:
        """Return the connector for a system's `config` and its API key. Raises ConnectorError for an unusable one.

        The keys of `config` are "files_com_site" and "files_com_records", with lines for `parse_records`.
        """
        site, api_key = str(config.get("files_com_site") or ""), credentials.get("files_com_api_key", "")
        check_site(site)
        check_api_key(api_key)
        return cls(site, api_key, parse_records(str(config.get("files_com_records") or "")))

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return no lead: Files.com uses what it has at once."""
        return Lead()

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return nothing: Files.com needs no notification."""
        return ""

    @property
    def shows_use(self) -> bool:
        """Whether the system can be asked: always, since it uses the only certificate that it has."""
        return True

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return the certificate of the station or the partner in each role. Raises ConnectorError."""
        held = dict.fromkeys(one.sha256 for one in self._records(change.side, change.as2_id) if one.sha256)
        found = RoleReport(tuple(held))
        return reported_use.held_certificates(dict.fromkeys(change.moves, found))

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Compare the station or the partner with the change. Raises ConnectorError."""
        return _state(self._records(change.side, change.as2_id), change)

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the certificates before the change. Raises ConnectorError."""
        return {"records": {one.record_id: one.sha256 for one in self._records(change.side, change.as2_id)}}

    def difference(self, change: ConnectorChange) -> tuple[str, ...]:
        """Return what applying the change would do and what to know before it, as sentences. Raises ConnectorError."""
        records = self._records(change.side, change.as2_id)
        self._check_possible(records, change)
        return (
            *(
                f"{self._where(one)}: {name_certificate(one.sha256 or None)} is replaced by "
                f"{name_certificate(change.new)} for {name_roles(change)}."
                for one in records
                if one.sha256 != change.new.sha256
            ),
            *_way_back(change),
            *(doubt for one in records for doubt in one.doubts),
        )

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the station or the partner, and compare its certificate with the change."""
        try:
            records = self._records(change.side, change.as2_id)
        except ConnectorUnreachable as error:
            return to_result(error)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))
        results = [reported_use.verify(one.report(change.moves), change, self._where(one)) for one in records]
        if bad := next((one for one in results if not one.outcome.good), None):
            return bad
        message = " ".join([one.message for one in results] + [doubt for one in records for doubt in one.doubts])
        return ConnectorResult(ConnectorOutcome.APPLIED, message, in_use=True)

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Replace the certificate where it is not the new one yet."""
        try:
            return self._apply(change)
        except ConnectorError as error:
            return to_result(error)

    def _apply(self, change: ConnectorChange) -> ConnectorResult:
        records = self._records(change.side, change.as2_id)
        self._check_possible(records, change)
        where, new = " and ".join(map(self._where, records)), name_certificate(change.new)
        if _state(records, change) is ConnectorState.NEW:
            return ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, f"{where}: {new} is there already.")
        material = {"public_certificate": change.new.certificate_pem.decode("ascii")}
        if change.side == "own":
            material["private_key"] = private_key_pem(change.new, "Files.com")
        for one in records:
            if one.sha256 != change.new.sha256:
                self._write(one, material, change)
        return ConnectorResult(ConnectorOutcome.APPLIED, " ".join([f"{where}: {new} was written.", *_way_back(change)]))

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Read the station or the partner again: Files.com needs no notification."""
        return self.verify(change)

    def used(self, baseline: Baseline) -> StationUse:
        """Return the certificate of each station or partner. Raises ConnectorError."""
        records = self._records(baseline.side, baseline.as2_id)
        found = [reported_use.station_use(one.report(baseline.roles), self._where(one)) for one in records]
        return StationUse(tuple(role for one in found for role in one.roles))

    def check(self) -> ConnectorResult:
        """List the stations and partners that the API key shows, and compare them with the IDs of the form."""
        try:
            listed = [*self._list("own"), *self._list("partner")]
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        shown = {f"{one.side} {one.as2_id} {one.record_id}" for one in listed}
        named = [f"{station} {one}" for station, ids in self.records.items() for one in ids]
        if wrong := [one for one in named if one not in shown]:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"{self._site} has no such station or partner: {list_some(wrong)}. It has {_count(listed)}: correct "
                "the IDs in the form of this AS2 system.",
            )
        weak = [one.as2_id for one in listed if one.mdn_level in _WEAK_LEVELS]
        doubt = (
            f" It does not verify the signature of MDNs from {list_some(weak)}: a good one proves little."
            if weak
            else ""
        )
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{self._site} has {_count(listed)}. It returns no private keys: a way back writes the old key from "
            f"here.{doubt}",
        )

    @property
    def _site(self) -> str:
        return f"Files.com ({self.site})"

    def _where(self, record: _Record) -> str:
        return f"Files.com ({self.site}, {_NOUNS[record.side]} {record.as2_id}, ID {record.record_id})"

    def _check_possible(self, records: Sequence[_Record], change: ConnectorChange) -> None:
        """Raise ChangeRejected for what a station or a partner of Files.com has no room for, and for drift."""
        if change.partner:
            raise ChangeRejected("A station of Files.com signs for all partners with the same certificate.")
        if "add" in change.moves.values():
            raise ChangeRejected(
                "Files.com has room for one certificate, so the old one is not accepted beside the new one: choose "
                "“no” in the form of this AS2 system for decrypting and verifying with two, and plan the change anew."
            )
        if missing := set(ROLES[change.side]) - set(change.moves):
            raise ChangeRejected(
                f"Files.com has one certificate for {' and '.join(ROLES[change.side])}, and this change leaves out "
                f"{' and '.join(sorted(missing))}: plan it for both."
            )
        for one in records:
            report = one.report(change.moves)
            if reported_use.connector_state(report, change) is ConnectorState.DRIFT:
                raise ChangeRejected(reported_use.describe_drift(report, change, self._where(one)))

    def _write(self, record: _Record, material: Mapping[str, str], change: ConnectorChange) -> None:
        """Write a certificate; if that fails, look whether it is there before anything else. Raises ConnectorError."""
        try:
            with self._calling(writes=True) as client:
                _resource(client, record.side).update(record.record_id, dict(material))
        except ConnectorError as error:
            self._look_after_failure(record, change, error)

    def _look_after_failure(self, record: _Record, change: ConnectorChange, error: ConnectorError) -> None:
        """Return if the certificate is there all the same; else raise an error that says what is known."""
        try:
            found = self._find(record.side, record.record_id)
        except ConnectorError as second:
            raise AnswerLost(f"{error} What it has now could not be read either: {second}") from None
        if found.sha256 == change.new.sha256:
            return
        if found.sha256 != record.sha256:
            report = found.report(change.moves)
            raise ChangeRejected(reported_use.describe_drift(report, change, self._where(record))) from None
        held = f"It still has {name_certificate(found.sha256 or None)}."
        raise add_detail(error, held) from None

    def _records(self, side: Literal["own", "partner"], as2_id: str) -> list[_Record]:
        """Return the station with an AS2 ID, or the partner, of which several stations may have one each."""
        if ids := self.records.get(f"{side} {as2_id}"):
            found = [self._find(side, int(one)) for one in ids]
            if wrong := [one for one in found if one.as2_id != as2_id]:
                raise ChangeRejected(
                    f"{self._where(wrong[0])} has another AS2 ID than {as2_id}: correct the IDs in the form of this "
                    "AS2 system."
                )
            return found
        found = [one for one in self._list(side) if one.as2_id == as2_id]
        if len(found) != 1:
            ids_found = f" ({list_some([str(one.record_id) for one in found])})" if found else ""
            raise ChangeRejected(
                f"{self._site} has {len(found) or 'no'} {_NOUNS[side]}{'s' if found else ''} with the AS2 ID "
                f"{as2_id}{ids_found}: "
                f"{'name those that are meant in' if found else 'make it there, or correct'} the form of this AS2 "
                "system."
            )
        return found

    def _find(self, side: Literal["own", "partner"], record_id: int) -> _Record:
        with self._calling() as client:
            return _record(side, _resource(client, side).find(record_id))

    def _list(self, side: Literal["own", "partner"]) -> list[_Record]:
        with self._calling() as client:
            pages = _resource(client, side).list({"per_page": PAGE_SIZE})
            found = [_record(side, one) for one in islice(pages.auto_paging_iter(), MAX_RECORDS + 1)]
        if len(found) > MAX_RECORDS:
            raise ConnectorError(
                f"{self._site} has more than {MAX_RECORDS} {_NOUNS[side]}s: name those that are meant in the form of "
                "this AS2 system."
            )
        return found

    @contextmanager
    def _calling(self, *, writes: bool = False) -> Iterator[Any]:
        """Provide the client, and raise a ConnectorError that says whether a call had an effect for its errors."""
        try:
            import files_sdk
            from files_sdk import error as errors
        except ImportError as error:
            raise ConnectorError(NOT_INSTALLED) from error
        try:
            with files_sdk.Client(
                api_key=self.api_key,
                base_url=self.base_url or f"https://{self.site}.files.com",
                open_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                request_timeout=self.total_seconds,
                max_network_retries=0,
                max_redirects=0,
                region_policy="disabled",
            ) as client:
                yield client
        except (errors.APIError, errors.APIConnectionError) as error:
            raise self._explain(error, writes=writes) from None
        except RecursionError:  # JSON that is nested too deeply
            raise self._without_answer("", is_lost=writes) from None
        except errors.Error as error:  # nothing was sent
            raise ChangeRejected(f"{self._site} can't be asked ({type(error).__name__}).") from None

    def _explain(self, error: Any, *, writes: bool) -> ConnectorError:
        status = error.http_status
        if status in _BUSY:
            wait = read_retry_after(error.headers.get("Retry-After"))
            return ConnectorUnreachable(f"{self._site} is busy (HTTP {status}).", wait)
        if status in (401, 403):
            return ChangeRejected(f"{self._site} refuses the API key (HTTP {status}){self._reason(error)}")
        if status and 400 <= status < 500:
            return ChangeRejected(f"{self._site} refuses the call (HTTP {status}){self._reason(error)}")
        shown = f" (HTTP {status})" if status else ""
        return self._without_answer(shown, is_lost=writes and error.remote_outcome_unknown)

    def _without_answer(self, shown: str, *, is_lost: bool) -> ConnectorError:
        if is_lost:
            return AnswerLost(f"{self._site} was sent the change and gave no usable answer{shown}.")
        return ConnectorUnreachable(f"{self._site} can't be reached, or gives no usable answer{shown}.")

    def _reason(self, error: Any) -> str:
        text = readable_reason(str(getattr(error, "_message", "") or ""), self.api_key)
        return f": {text}" if text else "."


def _state(records: Sequence[_Record], change: ConnectorChange) -> ConnectorState:
    return reported_use.combine_states(
        [reported_use.connector_state(one.report(change.moves), change) for one in records]
    )


def _resource(client: Any, side: str) -> Any:
    return client.as2_station if side == "own" else client.as2_partner


def _record(side: Literal["own", "partner"], found: Any) -> _Record:
    if not isinstance(found.id, int):
        raise ConnectorUnreachable("Files.com answers with a record without an ID.")
    return _Record(
        side,
        found.id,
        str(found.name or ""),
        pem_sha256(str(found.public_certificate or "")),
        str(getattr(found, "mdn_validation_level", None) or ""),
        str(getattr(found, "signature_validation_level", None) or ""),
    )


def _way_back(change: ConnectorChange) -> list[str]:
    """Return that the replaced key is lost there, and whether it is here, as a sentence; nothing for a partner."""
    if change.side != "own" or change.old is None or set(change.moves.values()) == {"drop"}:
        return []
    if change.old.key is None:
        return ["Files.com does not return the old private key, and it is not here either: there is no way back."]
    return ["Files.com does not return the old private key: a way back writes it from here."]


def _count(listed: Sequence[_Record]) -> str:
    """Return how many stations and partners there are, and their AS2 IDs."""
    said = []
    for side, noun in _NOUNS.items():
        names = [one.as2_id for one in listed if one.side == side]
        said.append(
            f"{len(names) or 'no'} {noun}{'' if len(names) == 1 else 's'}{(names and f' ({list_some(names)})') or ''}"
        )
    return " and ".join(said)
