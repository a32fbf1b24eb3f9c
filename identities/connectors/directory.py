"""Certificates as files in a folder that the AS2 system reads, and a hook that tells it so.

Everything new is written aside, made to last and moved into place whole; then links are turned over, the old one
first to `previous` and then the new one to `current`, and the hook runs. Whatever fails on the way puts the links
back. A call that was killed on the way leaves a note of the state before it, from which the next call goes on; so
a hook may run twice for one change, and has to stand that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from identities.connectors import comparison
from identities.connectors.base import Change, ConnectorError, Held, Item, Outcome, Result, Standing
from identities.connectors.comparison import name
from identities.connectors.folder_probe import explain, probe, startable
from identities.connectors.hooks import SECONDS, Hook, HookFailed, SystemUnreachable
from identities.connectors.release_files import KeyMissing, files_of, intact, passwords
from identities.connectors.station_folder import Busy, Links, Station, below, release_id


@dataclass(frozen=True)
class Directory:
    """One AS2 system's folder below the root, and the name of the hook of the configuration that it wants."""

    root: Path
    folder: str
    hook: str = ""
    hooks: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = SECONDS
    bundle_password: str = field(default="", repr=False)
    lock_seconds: float = 90.0

    kind: ClassVar[str] = "directory"
    label: ClassVar[str] = "Directory and hook"
    automatic: ClassVar[bool] = True
    signs_per_partner: ClassVar[bool] = True

    @classmethod
    def from_settings(cls, config: Mapping[str, Any], settings: Any) -> Directory:
        """Return the connector for a system's `config` ("folder", "hook"), with the server's settings."""
        folder, hook = config.get("folder"), config.get("hook")
        return cls(
            root=Path(settings.AS2CERTS_DIRECTORY_ROOT),
            folder=folder if isinstance(folder, str) else "",
            hook=hook if isinstance(hook, str) else "",
            hooks=settings.AS2CERTS_HOOKS,
            seconds=settings.AS2CERTS_HOOK_SECONDS,
            bundle_password=settings.AS2CERTS_BUNDLE_PASSWORD,
        )

    # Asking.

    def read(self, change: Change) -> Mapping[str, Held]:
        """Read which certificates the links of each role lead to; raise ConnectorError when that can't be read."""
        with self._asking():
            return comparison.held(self._station(change), change)

    def standing(self, change: Change) -> Standing:
        """Compare links and notes with the change; raise ConnectorError when they can't be read."""
        with self._asking():
            return comparison.standing(self._station(change), change, hooked=bool(self.hook))

    def checkpoint(self, change: Change) -> dict[str, Any]:
        """Note what the links lead to: where the change has begun already, what they led to before it.

        Raises ConnectorError when that can't be read.
        """
        with self._asking():
            return comparison.noting(comparison.before(self._station(change), change))

    def verify(self, change: Change) -> Result:
        """Read the files back and compare their fingerprints, and on our own side that the key belongs."""
        try:
            with self._asking():
                station = self._station(change)
                wrong = next(iter(self._wrong(station, change)), None)
        except ConnectorError as error:
            return Result(Outcome.UNKNOWN, str(error))
        if wrong:
            return Result(Outcome.REJECTED, f"Read back from {station.path}: {wrong}")
        return Result(
            Outcome.APPLIED,
            f"Read back from {station.path}: {name(change.new)} for {comparison.roles(change)}, as wanted.",
        )

    def check(self) -> Result:
        """Try whether the folder can be written to and the hook be started, and leave both as they are."""
        try:
            folder = below(self.root, self.folder)
            hook = self._hook()
            probe(folder)
        except ConnectorError as error:
            return Result(Outcome.REJECTED, str(error))
        except OSError as error:
            return Result(Outcome.REJECTED, explain(error, self.root / self.folder))
        if hook and not startable(hook.argv[0]):
            return Result(
                Outcome.REJECTED,
                f'The program {hook.argv[0]} of the hook "{hook.name}" is not there or may not be run: '
                "see AS2CERTS_HOOKS.",
            )
        told = f'the hook "{hook.name}" is there' if hook else "no hook is set"
        return Result(Outcome.APPLIED, f"The folder {folder} can be written to, and {told}.")

    # Acting, all of it under the station's lock.

    def apply(self, change: Change) -> Result:
        """Write the new certificate, turn the links over and run the hook; put all back where one of it fails."""
        try:
            self._hook()
            station = self._station(change)
            station.make()
            with station.locked(self.lock_seconds):
                return self._apply(station, change)
        except Busy as error:
            return Result(Outcome.RETRYABLE, str(error))
        except ConnectorError as error:
            return Result(Outcome.REJECTED, f"{error} Nothing was changed.")
        except OSError as error:
            return Result(Outcome.REJECTED, f"{explain(error, self.root / self.folder)} Nothing was changed.")

    def _apply(self, station: Station, change: Change) -> Result:
        found = comparison.standing(station, change, hooked=bool(self.hook))
        if found is Standing.NEW:
            already = f"{station.path} holds {name(change.new)} already{comparison.whom(change)}."
            return Result(Outcome.ALREADY_APPLIED, already + self._tidied(station))
        if found is Standing.DRIFT:
            raise ConnectorError(comparison.drift(station, change))
        station.sweep()
        before = comparison.before(station, change)
        added: list[str] = []
        try:
            beside = self._add_releases(station, change, before, added)
            if change.partner:
                station.name_partner(change.partner, change.as2_id)
            station.begin(change.operation, before)
            station.point(comparison.after(change, before, beside), forward=True)
            self._tell(station, change, comparison.phase(change))
            if not comparison.drops(change):
                station.finish(change.operation)
        except (OSError, ConnectorError, HookFailed) as error:
            return self._put_back(station, change, before, added, error)
        if comparison.drops(change):
            return self._let_go(station, change)
        alone = beside is None and any(links.current is None for links in comparison.kept(change, before))
        return Result(
            Outcome.APPLIED,
            f"{station.path} holds {name(change.new)} for {comparison.roles(change)}"
            f", with {'nothing' if alone else name(change.old)} beside it{self._told()}.{self._tidied(station)}",
        )

    def _let_go(self, station: Station, change: Change) -> Result:
        """Delete the releases that no link points to any more, and only then count the change as made."""
        try:
            station.remove_unlinked()
            station.finish(change.operation)
        except (OSError, ConnectorError) as error:
            return Result(
                Outcome.REJECTED,
                "The old certificate is no longer linked, but its files could not be deleted. "
                f"{self._why(error, station)}",
            )
        return Result(
            Outcome.APPLIED,
            f"{station.path} no longer holds the old certificate for {comparison.roles(change)}{self._told()}."
            f"{self._tidied(station)}",
        )

    def _tidied(self, station: Station) -> str:
        """Remove empty folders after a change that was made; what can't be removed is no reason to undo it."""
        try:
            station.tidy()
        except (OSError, ConnectorError) as error:
            return (
                f" Empty folders are left over, and the next change removes them. {self._why(error, station)}"
            )
        return ""

    def _put_back(
        self,
        station: Station,
        change: Change,
        before: Mapping[str, Links],
        added: list[str],
        error: Exception,
    ) -> Result:
        """Bring back the state before a change that failed, as far as the disk lets us, and say how it stands."""
        why = self._why(error, station)
        try:
            turned = station.point(before, forward=False)
        except (OSError, ConnectorError) as again:
            return Result(
                Outcome.UNKNOWN,
                f"{why} Putting the links back failed too: {self._why(again, station)} "
                f"Look at the links below {station.path} before anything else.",
            )
        extra = ""
        if turned or isinstance(error, HookFailed):
            try:
                self._tell(station, change, "put_back")
            except HookFailed as again:
                extra += f" Telling the system so failed too: {again}"
        try:
            station.sweep()
            if not comparison.drops(change):
                station.remove_releases({*added, release_id(change.new.sha256)})
            station.forget(change.operation)
            station.tidy()
        except (OSError, ConnectorError):
            extra += f" Files below {station.path} are left over; the next change removes them."
        outcome = Outcome.UNREACHABLE if isinstance(error, SystemUnreachable) else Outcome.REJECTED
        return Result(outcome, f"{why} {_in_force(change, before)}{extra}")

    # Parts of acting.

    def _add_releases(
        self, station: Station, change: Change, before: Mapping[str, Links], added: list[str]
    ) -> str | None:
        """Write what the links are to lead to; return the old's release where roles held nothing yet, if we have it.

        Appends to `added` what this call wrote, so that a failure can remove it again.
        """
        if all(move == "drop" for move in change.moves.values()):
            return None
        self._add(station, change, change.new, added)
        if change.old is None or all(links.current for links in comparison.kept(change, before)):
            return None
        try:
            return self._add(station, change, change.old, added)
        except KeyMissing:
            return None

    def _add(self, station: Station, change: Change, item: Item, added: list[str]) -> str:
        release = release_id(item.sha256)
        folder = station.release(release)
        if folder.is_dir():
            if intact(folder, item, private=station.private, bundle_password=self.bundle_password):
                return release
            if release in station.linked():
                raise ConnectorError(
                    f"{folder} is in use, and is not as it was written: set it right by hand."
                )
            station.remove_releases([release])
        files = files_of(
            item, private=station.private, as2_id=change.as2_id, bundle_password=self.bundle_password
        )
        station.add_release(release, files)
        added.append(release)
        return release

    def _wrong(self, station: Station, change: Change) -> Iterator[str]:
        yield from comparison.differences(station, change)
        if not comparison.drops(change) and not intact(
            station.release(release_id(change.new.sha256)),
            change.new,
            private=station.private,
            bundle_password=self.bundle_password,
        ):
            yield "files are missing beside the certificate, or the key there belongs to another."
        if self.hook and not station.done(change.operation):
            yield f'the hook "{self.hook}" has not run to its end for this change.'

    def _tell(self, station: Station, change: Change, phase: str) -> None:
        hook = self._hook()
        if hook is None:
            return
        hook.run(
            cwd=station.path,
            environment={
                "AS2CERTS_OPERATION": change.operation,
                "AS2CERTS_SIDE": change.side,
                "AS2CERTS_AS2_ID": change.as2_id,
                "AS2CERTS_PARTNER": change.partner,
                "AS2CERTS_ROLES": ",".join(sorted(change.moves)),
                "AS2CERTS_PHASE": phase,
                "AS2CERTS_STATION": str(station.path),
                "AS2CERTS_SHA256": change.new.sha256,
            },
            hide=[
                self.bundle_password,
                *(word for release in station.linked() for word in passwords(station.releases / release)),
            ],
        )

    def _told(self) -> str:
        return f', and the hook "{self.hook}" ran' if self.hook else ""

    def _hook(self) -> Hook | None:
        if not self.hook:
            return None
        argv = self.hooks.get(self.hook)
        if not isinstance(argv, (list, tuple)) or not argv or not all(isinstance(word, str) for word in argv):
            known = ", ".join(sorted(self.hooks)) or "none"
            raise ConnectorError(
                f'The hook "{self.hook}" is not in AS2CERTS_HOOKS, which has: {known}. Choose one of these, or have '
                "it added there as a list of the command and its arguments."
            )
        return Hook(self.hook, tuple(argv), self.seconds)

    def _station(self, change: Change) -> Station:
        return Station(below(self.root, self.folder), side=change.side, as2_id=change.as2_id)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConnectorError(
                f"{self.root / self.folder} can't be read: {error.strerror or error}."
            ) from error

    def _why(self, error: Exception, station: Station) -> str:
        return explain(error, station.path) if isinstance(error, OSError) else str(error)


def _in_force(change: Change, before: Mapping[str, Links]) -> str:
    if comparison.drops(change):
        return "The old certificate is still accepted beside the new one."
    kept = comparison.kept(change, before)
    if change.old and all(links.current == release_id(change.old.sha256) for links in kept):
        return f"{name(change.old)} is still in force{comparison.whom(change)}."
    return "The folder is as it was before."
