"""Change the keystore and the partnerships of an OpenAS2 server on this machine, or in a mounted folder.

OpenAS2 reads both files again by their time of change, each at its own interval, and refuses every message whose alias
its keystore lacks. So a change goes in this order, and each call continues from what the files show:

1. Add the certificate to the keystore, and wait until OpenAS2 has read it.
2. Name it in ``partnerships.xml``, and wait until OpenAS2 has read that.
3. Where the old certificate is retired, remove its entry from the keystore, if no element names it.

While it waits, the result is PENDING.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import hashlib
import http.client
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from as2certs import pki
from identities.connectors.base import (
    ROLES,
    Baseline,
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
    Lead,
    RoleUse,
    StationUse,
)
from identities.connectors.folder_probe import explain_os_error
from identities.connectors.openas2_keystore import (
    Busy,
    Entry,
    FileChanged,
    Keystore,
    locked,
    remove_work_folders,
    replace_file,
    touch,
)
from identities.connectors.openas2_partnerships import Aliases, End, Partnerships, held_after, is_unexpected
from identities.connectors.read_back import UnexpectedUse

KEYSTORE_SECONDS, PARTNERSHIPS_SECONDS = 300, 120
"""The intervals at which OpenAS2 reads its files again, unless its configuration says otherwise."""
MAX_INTERVAL_SECONDS = 1800
"""Both together have to pass before a step is given up for want of use."""
REST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_NAMED = 5
"""How many other entries of the keystore a message names."""
_NO_ENTRY = "no entry"
"""With its alias, in place of the SHA-256 of an entry that the keystore lacks."""


@dataclass(frozen=True)
class OpenAS2Connector:
    """The files of one OpenAS2 server, the intervals at which it reads them in seconds, and its REST interface."""

    keystore: str
    partnerships: str
    password: str = field(repr=False)
    roots: tuple[Path, ...] = ()
    keystore_seconds: float = KEYSTORE_SECONDS
    partnerships_seconds: float = PARTNERSHIPS_SECONDS
    rest_url: str = ""
    rest_user: str = ""
    rest_password: str = field(default="", repr=False)
    rest_urls: tuple[str, ...] = ()
    clock: Callable[[], float] = field(default=time.time, repr=False)
    lock_seconds: float = 90.0
    keytool_seconds: float = 60.0

    kind: ClassVar[str] = "openas2"
    label: ClassVar[str] = "OpenAS2: keystore and partnerships"
    summary: ClassVar[str] = (
        "Changes get here by themselves: its keystore and its partnerships are changed ahead of the agreed "
        "moment, and read back."
    )
    signs_per_partner: ClassVar[bool] = True
    sends_keys: ClassVar[bool] = True
    holds_two: ClassVar[bool] = True

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> OpenAS2Connector:
        """Return the connector for a system's `config`, with the server's settings and the system's passwords."""
        lead = cls.lead(config)
        return cls(
            keystore=str(config.get("keystore", "")),
            partnerships=str(config.get("partnerships", "")),
            rest_url=str(config.get("rest_url", "")),
            rest_user=str(config.get("rest_user", "")),
            password=credentials.get("keystore_password", ""),
            rest_password=credentials.get("rest_password", ""),
            roots=tuple(settings.AS2CERTS_OPENAS2_ROOTS),
            rest_urls=tuple(settings.AS2CERTS_OPENAS2_REST),
            keystore_seconds=(lead.unstaged - lead.staged).total_seconds(),
            partnerships_seconds=lead.staged.total_seconds(),
        )

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return the interval of the partnerships, and that of both files for a certificate that comes with it."""
        keystore = _seconds(config.get("keystore_seconds"), KEYSTORE_SECONDS)
        partnerships = _seconds(config.get("partnerships_seconds"), PARTNERSHIPS_SECONDS)
        return Lead(timedelta(seconds=partnerships), timedelta(seconds=keystore + partnerships))

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return that OpenAS2 reads both files again."""
        return "OpenAS2 reads its keystore and its partnerships again. What is in them does not change."

    @property
    def shows_use(self) -> bool:
        """Whether OpenAS2 can be asked, by its REST interface, which certificates it has read."""
        return bool(self.rest_url)

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return what the aliases in force stand for. Raises ConnectorError."""
        with self._reading():
            held = _Situation(self, change).held
        reader, writer = ROLES[change.side]
        by_role = {reader: held, writer: HeldCertificates(held.current)}
        return {role: by_role[role] for role in change.moves}

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Compare both files and their times of change with the change. Raises ConnectorError."""
        with self._reading():
            found = _Situation(self, change)
            if found.drift:
                return ConnectorState.DRIFT
            if not found.held.current and not found.held.beside:
                return ConnectorState.EMPTY
            if found.refusal or found.lacks_entry:
                return ConnectorState.OLD
            if found.edited != found.xml.data:
                is_named = change.new.sha256 in (found.held.current, *found.held.beside)
                return ConnectorState.OLD if is_named else ConnectorState.PARTLY
            if self._wait(found):
                return ConnectorState.STORED
            return ConnectorState.PARTLY if found.superfluous else ConnectorState.NEW

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the aliases of the station before the change. Raises ConnectorError."""
        with self._reading():
            found = _Situation(self, change)
            own = found.xml.partner(change.as2_id).aliases
            ends = [(end.partnership, end.element.name, end.element.aliases) for end in found.xml.ends(change.as2_id)]
        return {
            "main": own.main,
            "fallback": own.fallback,
            "partnerships": [
                {"name": name, "element": element, "main": aliases.main, "fallback": aliases.fallback}
                for name, element, aliases in ends
                if aliases != Aliases()
            ],
        }

    def difference(self, change: ConnectorChange) -> Sequence[str]:
        """Return the aliases that would be imported and removed, and the diff of the XML. Raises ConnectorError."""
        with self._reading():
            found = _Situation(self, change)
            if reason := found.drift or found.refusal:
                raise ConnectorError(reason)
            before, after = (
                data.decode(found.xml.encoding, "replace").splitlines() for data in (found.xml.data, found.edited)
            )
            lines = difflib.unified_diff(before, after, self.partnerships, self.partnerships, lineterm="", n=0)
            return [
                *([f"+ {found.alias} in {self.keystore}"] if found.lacks_entry else []),
                *(f"- {alias} in {self.keystore}" for alias in found.superfluous),
                *lines,
            ]

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Do what is possible now, under a lock; what is not yet possible is PENDING."""
        return self._write(lambda: self._apply(change))

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read both files, wait until OpenAS2 has read them too, and ask it, if it has a REST interface."""
        try:
            with self._reading():
                found = _Situation(self, change)
                wrong = found.drift or found.refusal
                if found.lacks_entry:
                    wrong = f"{self.keystore} lacks {_name(change.new.sha256)}."
                elif found.edited != found.xml.data:
                    wrong = f"{self.partnerships} does not name {_name(change.new.sha256)} as wanted."
                if wrong:
                    return ConnectorResult(ConnectorOutcome.REJECTED, f"Read back: {wrong}")
                wait = self._wait(found)
                if wait or found.superfluous:
                    return self._pending(f"Stored: {found.describe()}. OpenAS2 reads it within {wait:.0f} s.", wait)
                return self._ask_use(found)
        except UnexpectedUse as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        except Busy as error:
            return ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))

    def used(self, baseline: Baseline) -> StationUse:
        """Return what the aliases of a station stand for. Raises ConnectorError, also for an alias without entry."""
        with self._reading():
            xml, entries = self.read_partnerships(), self.store.entries()
        places = [("", xml.partner(baseline.as2_id).aliases)]
        for end in xml.ends(baseline.as2_id):
            if end.other in baseline.choices or end.element.aliases != Aliases():
                places.append((end.other, xml.aliases_of(end)))
        reader, writer = ROLES[baseline.side]
        found: list[RoleUse] = []
        for partner, named in places:
            held = _held(named, entries, needs_key=baseline.side == "own")
            self._require_entries(baseline.as2_id, held)
            main = frozenset([held.current] if held.current else [])
            both = main.union(held.beside)
            found += [RoleUse("OpenAS2", role, use, partner) for role, use in ((reader, both), (writer, main))]
        shown = {entry.sha256: entry.der for entry in entries.values() if entry.der}
        used = frozenset[str]().union(*(one.in_use for one in found))
        roles = tuple(one for one in found if one.role in baseline.roles)
        return StationUse(roles, {sha256: der for sha256, der in shown.items() if sha256 in used})

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Give both files a fresh time of change, so that OpenAS2 reads them once more."""

        def write() -> ConnectorResult:
            if self.state(change) not in (ConnectorState.NEW, ConnectorState.STORED):
                raise ConnectorError("The files hold something else than this step wrote: repeat the later change.")
            for path in (self._path(self.keystore), self._path(self.partnerships)):
                touch(path, after=path.stat().st_mtime, now=self.clock())
            return ConnectorResult(
                ConnectorOutcome.APPLIED, f"OpenAS2 reads {self.keystore} and {self.partnerships} once more."
            )

        return self._write(write)

    def check(self) -> ConnectorResult:
        """Read both files, and check that all aliases have their certificate and that the files can be replaced."""
        try:
            with self._reading():
                paths = [self._path(self.keystore), self._path(self.partnerships)]
                for path in paths:
                    _check_replaceable(path)
                xml, entries = self.read_partnerships(), self.store.entries()
                named = {alias for e in xml.elements for alias in (e.aliases.main, e.aliases.fallback) if alias}
                if missing := sorted(named - set(entries)):
                    return ConnectorResult(
                        ConnectorOutcome.REJECTED,
                        f"{self.partnerships} names aliases that {self.keystore} lacks, so OpenAS2 refuses their "
                        f"messages: {_list_some(missing)}. Correct one of the files.",
                    )
                return self._check_rest(sorted(named), entries)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))

    def _check_rest(self, named: list[str], entries: Mapping[str, Entry]) -> ConnectorResult:
        good = f"The keystore with {len(entries)} entries and the partnerships can be read and replaced"
        if not self.rest_url or not named:
            return ConnectorResult(ConnectorOutcome.APPLIED, f"{good}.")
        shown = self._ask(named[0])
        if shown == entries[named[0]].sha256:
            return ConnectorResult(ConnectorOutcome.APPLIED, f"{good}, and the REST interface shows {named[0]}.")
        return ConnectorResult(
            ConnectorOutcome.REJECTED,
            f"The REST interface shows {_name(shown)} under the alias {named[0]}, and the keystore has "
            f"{_name(entries[named[0]].sha256)}: it belongs to another OpenAS2, or has not read its keystore yet.",
        )

    def _apply(self, change: ConnectorChange) -> ConnectorResult:
        found = _Situation(self, change)
        if reason := found.drift or found.refusal:
            raise ConnectorError(reason)
        if found.lacks_entry:
            self.store.add(found.alias, change.new)
            found = _Situation(self, change)
        if found.edited != found.xml.data:
            if waiting := self._wait_before_naming(found):
                return waiting
            replace_file(self._path(self.partnerships), found.edited, expected=found.xml.data, now=self.clock())
            found = _Situation(self, change)
        if wait := self._wait(found):
            return self._pending(f"Written: {found.describe()}. OpenAS2 reads it within {wait:.0f} s.", wait)
        if removed := found.superfluous:
            self.store.remove(removed)
            others = sorted(set(self.store.entries()) - {found.alias})
            return ConnectorResult(
                ConnectorOutcome.APPLIED,
                f"{self.keystore} no longer holds {', '.join(removed)}. It still holds {found.alias}"
                f"{' and others: ' + _list_some(others) if others else ' alone'}.",
            )
        return ConnectorResult(ConnectorOutcome.APPLIED, f"OpenAS2 has {found.describe()}.")

    def _wait_before_naming(self, found: _Situation) -> ConnectorResult | None:
        """Return that the new alias may not be named yet; None once OpenAS2 has read the keystore and it is time."""
        change = found.change
        if set(change.moves.values()) == {"drop"}:
            return None
        stored = f"{self.keystore} holds {_name(change.new.sha256)} as {found.alias}."
        if self.rest_url:
            if missing := self._missing_use(found):
                return self._pending(f"{stored} {missing}", 0)
        elif wait := self._left(self._path(self.keystore), self.keystore_seconds):
            return self._pending(f"{stored} OpenAS2 reads it within {wait:.0f} s; then it is named.", wait)
        if change.active_at is not None:
            wait = change.active_at.timestamp() - self.partnerships_seconds - self.clock()
            if wait > 0:
                return self._pending(f"{stored} {self.partnerships} is written in {wait:.0f} s.", wait)
        return None

    def _ask_use(self, found: _Situation) -> ConnectorResult:
        stored = f"Read back: {found.describe()}"
        if not self.rest_url:
            return ConnectorResult(ConnectorOutcome.APPLIED, f"{stored}, and the intervals of OpenAS2 are over.")
        if missing := self._missing_use(found):
            return self._pending(f"{stored}. {missing}", 0)
        return ConnectorResult(ConnectorOutcome.APPLIED, f"{stored}, shown by its REST interface.", in_use=True)

    def _missing_use(self, found: _Situation) -> str:
        """Return why OpenAS2 does not show the new certificate, "" if it does. Raises UnexpectedUse for another one."""
        try:
            shown = self._ask(found.alias)
        except ConnectorError as error:
            return str(error)
        if shown is not None and shown != found.change.new.sha256:
            wanted = _name(found.change.new.sha256)
            raise UnexpectedUse(
                f"OpenAS2 shows {_name(shown)} under the alias {found.alias}, which is {wanted} in {self.keystore}: "
                "find out which keystore it reads."
            )
        return "" if shown else f"OpenAS2 does not show the alias {found.alias} yet."

    def _ask(self, alias: str) -> str | None:
        """Return the SHA-256 of the certificate that OpenAS2 has read under an alias, None if it has none.

        Raises ConnectorError if its REST interface can't be asked.
        """
        if self.rest_url not in self.rest_urls:
            raise ConnectorError(
                f"The REST interface {self.rest_url} is not in AS2CERTS_OPENAS2_REST: add it there, or remove it here."
            )
        url = urlsplit(self.rest_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        token = base64.b64encode(f"{self.rest_user}:{self.rest_password}".encode()).decode()
        connection = kind(url.hostname or "", url.port, timeout=REST_SECONDS)
        try:
            path = f"{url.path.rstrip('/')}/cert/view/{quote(alias, safe='')}"
            connection.request("GET", path, headers={"Authorization": f"Basic {token}", "Accept": "application/json"})
            answer = connection.getresponse()
            status, body = answer.status, answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectorError(
                f"The REST interface {self.rest_url} does not answer ({type(error).__name__}): is OpenAS2 running?"
            ) from None
        finally:
            connection.close()
        if status in (401, 403):
            raise ConnectorError(f"The REST interface {self.rest_url} refuses the user or the password: correct them.")
        return _certificate_in(body)

    def _require_entries(self, as2_id: str, held: HeldCertificates) -> None:
        """Raise ConnectorError if an alias has no entry in the keystore."""
        for one in (held.current, *held.beside):
            if one and one.startswith(_NO_ENTRY):
                raise ConnectorError(
                    f"{self.partnerships} names an alias of {as2_id} for which {self.keystore} has {one}, so OpenAS2 "
                    "refuses its messages: correct one of the files."
                )

    def _wait(self, found: _Situation) -> float:
        """Return the seconds until OpenAS2 has read both files; the keystore only where a certificate is added."""
        wait = self._left(self._path(self.partnerships), self.partnerships_seconds)
        if set(found.change.moves.values()) != {"drop"} and not self.rest_url:
            wait = max(wait, self._left(self._path(self.keystore), self.keystore_seconds))
        return wait

    def _left(self, path: Path, seconds: float) -> float:
        return max(0.0, path.stat().st_mtime + seconds - self.clock())

    def _pending(self, message: str, wait: float) -> ConnectorResult:
        return ConnectorResult(ConnectorOutcome.PENDING, message, wait=timedelta(seconds=math.ceil(wait)) or None)

    def _write(self, write: Callable[[], ConnectorResult]) -> ConnectorResult:
        """Call `write` under a lock, and turn errors into results; a failed write has left the files as they were."""
        try:
            paths = [self._path(self.keystore), self._path(self.partnerships)]
            with locked(paths[0].parent, self.lock_seconds):
                for path in paths:
                    remove_work_folders(path)
                return write()
        except (Busy, FileChanged) as error:
            return ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} What OpenAS2 uses was not changed.")
        except OSError as error:
            why = explain_os_error(error, Path(self.keystore).parent)
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{why} What OpenAS2 uses was not changed.")

    @cached_property
    def store(self) -> Keystore:
        """The keystore; the same content is listed once in the lifetime of this object."""
        return Keystore(self._path(self.keystore), self.password, self.keytool_seconds, self.clock)

    def read_partnerships(self) -> Partnerships:
        """Return the present partnerships. Raises ConnectorError and OSError."""
        return Partnerships(self._path(self.partnerships).read_bytes())

    def _path(self, name: str) -> Path:
        return allowed_file(name, self.roots)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConnectorError(f"{error.filename or self.keystore} can't be read: {error.strerror}.") from error


class _Situation:
    """What both files hold for the station of a change, and what they should hold after it."""

    def __init__(self, connector: OpenAS2Connector, change: ConnectorChange) -> None:
        self.change = change
        self.entries = connector.store.entries()
        self.xml = connector.read_partnerships()
        self.partner = self.xml.partner(change.as2_id)
        self.ends = [end for end in self.xml.ends(change.as2_id) if change.partner in ("", end.other)]
        self.drift, self.refusal = "", ""
        self.alias = self._alias_of(change.new.sha256) or self._free_alias()
        self.lacks_entry = self.alias not in self.entries and set(change.moves.values()) != {"drop"}
        self.edited = self.xml.data
        if change.partner and not self.ends:
            self.refusal = f"No partnership connects {change.as2_id} with {change.partner}: add one, then retry."
        else:
            self._compare()

    @cached_property
    def held(self) -> HeldCertificates:
        """The certificates in force: for one partner, those of the first partnership with it."""
        aliases = self.xml.aliases_of(self.ends[0]) if self.change.partner and self.ends else self.partner.aliases
        return self._held(aliases)

    @property
    def superfluous(self) -> tuple[str, ...]:
        """The entries of a certificate that is dropped, which no element of the changed partnerships names."""
        change = self.change
        if set(change.moves.values()) != {"drop"} or change.old is None or self.drift or self.refusal:
            return ()
        after = Partnerships(self.edited)
        kind = change.side == "own"
        old = (alias for alias, entry in self.entries.items() if entry == Entry(change.old.sha256, kind))
        return tuple(sorted(alias for alias in old if not after.users_of(alias)))

    def describe(self) -> str:
        """Return what the aliases stand for, for messages."""
        after = held_after(self.held, self.change)
        beside = f", and {_names(after.beside)} as fallback" if after.beside else ""
        whom = f" for {self.change.partner}" if self.change.partner else ""
        return f"{_name(after.current)} as main certificate of {self.change.as2_id}{whom}{beside}"

    def _compare(self) -> None:
        """Find what the change does not expect or OpenAS2 can't hold, and edit the partnerships."""
        change = self.change
        places = [(f"{e.partnership} ({e.element.name})", self.xml.aliases_of(e)) for e in self.ends]
        if not change.partner:
            places = [("the <partner>", self.partner.aliases), *places]
        for name, aliases in places:
            held = self._held(aliases)
            if is_unexpected(held, change):
                self.drift = (
                    f"At {name} of {change.as2_id}, the main alias “{aliases.main}” is {_name(held.current)} and the "
                    f"fallback is {_names(held.beside)}, which is neither the state before this change nor after it: "
                    "find out who changed it, and set it right or plan the change anew."
                )
                return
        known = [change.new.sha256, *([change.old.sha256] if change.old else [])]
        for alias in sorted(alias for alias, entry in self.entries.items() if entry.sha256 in known):
            stations = self.xml.stations_of(alias)
            if change.as2_id in stations and len(stations) > 1:
                others = ", ".join(sorted(stations - {change.as2_id}))
                self.refusal = (
                    f"The alias {alias} is named for {change.as2_id} and for {others}, so their certificates can't "
                    "change one by one: give each an alias of its own, then retry."
                )
                return
        try:
            self._edit()
        except ConnectorError as error:
            self.refusal = str(error)

    def _edit(self) -> None:
        change, (_, writer) = self.change, ROLES[self.change.side]
        default = self.partner.aliases
        if not change.partner:
            default = self._aliases(held_after(self._held(default), change), default)
            self.xml.set(self.partner, default)
        ends_choices = not change.partner and change.moves.get(writer) in ("switch", "replace")
        for end in self.ends:
            wanted = Aliases() if ends_choices else self._at_end(end, default)
            self.xml.set(end.element, wanted)
        self.edited = self.xml.edited()

    def _at_end(self, end: End, default: Aliases) -> Aliases:
        """Return the aliases that one end of a partnership needs itself, beside what it has from its partner."""
        own, now = end.element.aliases, self.xml.aliases_of(end)
        if own == Aliases() and not self.change.partner:
            return own
        wanted = self._aliases(held_after(self._held(now), self.change), now)
        if self.change.partner:
            return Aliases() if wanted == default else wanted
        return Aliases(wanted.main if own.main else "", wanted.fallback if wanted.fallback != default.fallback else "")

    def _aliases(self, held: HeldCertificates, now: Aliases) -> Aliases:
        """Return the aliases of some certificates; those that are named already are kept."""
        by_sha256 = {self._held_by(alias): alias for alias in (now.fallback, now.main) if alias}

        def name(sha256: str | None) -> str:
            return "" if sha256 is None else by_sha256.get(sha256) or self._alias_of(sha256) or self.alias

        return Aliases(name(held.current), name(next(iter(held.beside), None)))

    def _alias_of(self, sha256: str) -> str:
        """Return the alias of a certificate in the keystore, one that is named already before others; "" for none."""
        needs_key = self.change.side == "own"
        found = sorted(a for a, e in self.entries.items() if e.sha256 == sha256 and (e.has_key or not needs_key))
        mine = [alias for alias in found if self.change.as2_id in self.xml.stations_of(alias)]
        return next(iter([*mine, *found]), "")

    def _free_alias(self) -> str:
        """Return an alias of our own that no entry has: the AS2 ID, and as much of the fingerprint as it takes."""
        name = re.sub(r"[^a-z0-9]+", "-", self.change.as2_id.lower()).strip("-")[:40] or "as2"
        sha256 = self.change.new.sha256
        lengths = (12, 24, 64)
        return next((a for n in lengths if (a := f"{name}-{sha256[:n]}") not in self.entries), f"{name}-{sha256}-2")

    def _held(self, aliases: Aliases) -> HeldCertificates:
        return _held(aliases, self.entries, needs_key=self.change.side == "own")

    def _held_by(self, alias: str) -> str | None:
        return self._held(Aliases(alias)).current


def _held(aliases: Aliases, entries: Mapping[str, Entry], *, needs_key: bool) -> HeldCertificates:
    """Return the SHA-256 of what aliases stand for; an alias without the entry that it needs is named instead."""

    def resolve(alias: str) -> str | None:
        entry = entries.get(alias)
        if not alias:
            return None
        return entry.sha256 if entry and (entry.has_key or not needs_key) else f"{_NO_ENTRY} {alias}"

    main, fallback = resolve(aliases.main), resolve(aliases.fallback)
    return HeldCertificates(main, (fallback,) if fallback and fallback != main else ())


def allowed_file(name: str, roots: tuple[Path, ...]) -> Path:
    """Return the path of a file below one of the roots, links resolved. Raises ConnectorError for any other."""
    if not roots:
        raise ConnectorError(
            "No folder of OpenAS2 is allowed on this server: set AS2CERTS_OPENAS2_ROOTS to the folder of its keystore "
            "and its partnerships, and restart."
        )
    path = Path(name)
    allowed = ", ".join(map(str, roots))
    if not name.isprintable() or not path.is_absolute() or ".." in path.parts:
        raise ConnectorError(f"{name!r} is refused: give the full path of a file below {allowed}.")
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise ConnectorError(f"{name} is refused: it is not below {allowed}, which AS2CERTS_OPENAS2_ROOTS allows.")
    if not resolved.is_file():
        raise ConnectorError(f"{name} is not there, or is no file: correct the path, or mount the folder.")
    return resolved


def _check_replaceable(path: Path) -> None:
    """Raise ConnectorError unless this account may replace a file and keep its owner."""
    if not os.access(path.parent, os.W_OK | os.X_OK) or not os.access(path, os.R_OK):
        raise ConnectorError(
            f"This account (number {os.geteuid()}) may not read {path} or not write to its folder: give it both rights."
        )
    if os.geteuid() not in (0, path.stat().st_uid):
        raise ConnectorError(
            f"{path} belongs to the account number {path.stat().st_uid}, and only that one can replace it without "
            f"changing its owner: run this application's worker as it, or make number {os.geteuid()} the owner."
        )


def _certificate_in(body: bytes) -> str | None:
    """Return the SHA-256 of the certificate in an answer of the REST interface, None if it has none."""
    try:
        answer = json.loads(body)
        if answer["type"] != "OK":
            return None
        return hashlib.sha256(base64.b64decode(answer["results"][0]["data"], validate=True)).hexdigest()
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def _seconds(value: object, default: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_INTERVAL_SECONDS else default


def _name(sha256: str | None) -> str:
    if sha256 is None:
        return "nothing"
    return sha256 if sha256.startswith(_NO_ENTRY) else str(pki.short_fingerprint(sha256))


def _names(some: Any) -> str:
    return " and ".join(_name(one) for one in sorted(some)) or "nothing"


def _list_some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
