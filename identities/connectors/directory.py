"""Write certificates as files to a folder that the AS2 system reads, and run a hook that makes it reload them.

1. Record the links before the change.
2. Write the files of the new certificate to a work folder, sync them, and rename it into place.
3. Point the links `previous` to the old certificate and then `current` to the new one.
4. Run the hook, and mark the operation as done.

After a failure the links are restored. After a killed call the next one continues from the record, so that a hook may
run twice for one change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from identities.connectors import comparison
from identities.connectors.base import (
    ConnectorChange,
    ConnectorError,
    ConnectorOutcome,
    ConnectorResult,
    ConnectorState,
    HeldCertificates,
    InstallableCertificate,
)
from identities.connectors.comparison import name_certificate
from identities.connectors.folder_probe import explain_os_error, is_executable, probe_writable
from identities.connectors.hooks import DEFAULT_SECONDS, Hook, HookFailed, SystemUnreachable
from identities.connectors.release_files import KeyMissing, build_release_files, is_intact, stored_passwords
from identities.connectors.station_folder import (
    LinkPair,
    StationBusy,
    StationFolder,
    release_id,
    resolve_below,
)


@dataclass(frozen=True)
class DirectoryConnector:
    """The folder of one AS2 system below the root, and the name of its hook."""

    root: Path
    folder: str
    hook: str = ""
    hooks: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = DEFAULT_SECONDS
    bundle_password: str = field(default="", repr=False)
    lock_seconds: float = 90.0

    kind: ClassVar[str] = "directory"
    label: ClassVar[str] = "Directory and hook"
    automatic: ClassVar[bool] = True
    signs_per_partner: ClassVar[bool] = True

    @classmethod
    def from_settings(cls, config: Mapping[str, Any], settings: Any) -> DirectoryConnector:
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

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return the certificates that the links of each role point to. Raises ConnectorError."""
        with self._reading():
            return comparison.held_certificates(self._station(change), change)

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Compare links and records with the change. Raises ConnectorError."""
        with self._reading():
            return comparison.connector_state(self._station(change), change, hooked=bool(self.hook))

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the links, those before the change if it was started. Raises ConnectorError."""
        with self._reading():
            return comparison.to_checkpoint(comparison.state_before(self._station(change), change))

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the files and compare their fingerprints, and for identities the private key."""
        try:
            with self._reading():
                station = self._station(change)
                wrong = next(iter(self._differences(station, change)), None)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))
        if wrong:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"Read back from {station.path}: {wrong}")
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"Read back from {station.path}: {name_certificate(change.new)} for "
            f"{comparison.name_roles(change)}, as wanted.",
        )

    def check(self) -> ConnectorResult:
        """Check that the folder is writable and the hook executable, without running it."""
        try:
            folder = resolve_below(self.root, self.folder)
            hook = self._hook()
            probe_writable(folder)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        except OSError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, explain_os_error(error, self.root / self.folder))
        if hook and not is_executable(hook.argv[0]):
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f'The program {hook.argv[0]} of the hook "{hook.name}" is not there or may not be run: '
                "see AS2CERTS_HOOKS.",
            )
        hook_state = f'the hook "{hook.name}" is there' if hook else "no hook is set"
        return ConnectorResult(ConnectorOutcome.APPLIED, f"The folder {folder} can be written to, and {hook_state}.")

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Write the new certificate, move the links and run the hook under a lock; restore all on failure."""
        try:
            self._hook()
            station = self._station(change)
            station.make()
            with station.locked(self.lock_seconds):
                return self._apply(station, change)
        except StationBusy as error:
            return ConnectorResult(ConnectorOutcome.RETRYABLE, str(error))
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} Nothing was changed.")
        except OSError as error:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"{explain_os_error(error, self.root / self.folder)} Nothing was changed.",
            )

    def _apply(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        found = comparison.connector_state(station, change, hooked=bool(self.hook))
        if found is ConnectorState.NEW:
            already = f"{station.path} holds {name_certificate(change.new)} already{comparison.for_partner(change)}."
            return ConnectorResult(ConnectorOutcome.ALREADY_APPLIED, already + self._tidy(station))
        if found is ConnectorState.DRIFT:
            raise ConnectorError(comparison.describe_drift(station, change))
        station.sweep()
        before = comparison.state_before(station, change)
        added: list[str] = []
        try:
            beside = self._add_releases(station, change, before, added)
            if change.partner:
                station.name_partner(change.partner, change.as2_id)
            station.begin(change.operation, before)
            station.point(comparison.state_after(change, before, beside), forward=True)
            self._run_hook(station, change, comparison.hook_phase(change))
            if not comparison.drops_old(change):
                station.finish(change.operation)
        except (OSError, ConnectorError, HookFailed) as error:
            return self._restore(station, change, before, added, error)
        if comparison.drops_old(change):
            return self._remove_old(station, change)
        alone = beside is None and any(links.current is None for links in comparison.remaining_links(change, before))
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{station.path} holds {name_certificate(change.new)} for {comparison.name_roles(change)}"
            f", with {'nothing' if alone else name_certificate(change.old)} beside "
            f"it{self._hook_note()}.{self._tidy(station)}",
        )

    def _remove_old(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        """Delete the releases without links, and only then mark the change as done."""
        try:
            station.remove_unlinked()
            station.finish(change.operation)
        except (OSError, ConnectorError) as error:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                "The old certificate is no longer linked, but its files could not be deleted. "
                f"{self._why(error, station)}",
            )
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{station.path} no longer holds the old certificate for {comparison.name_roles(change)}"
            f"{self._hook_note()}.{self._tidy(station)}",
        )

    def _tidy(self, station: StationFolder) -> str:
        """Remove empty folders after a change; failing to do so does not undo it."""
        try:
            station.tidy()
        except (OSError, ConnectorError) as error:
            return f" Empty folders are left over, and the next change removes them. {self._why(error, station)}"
        return ""

    def _restore(
        self,
        station: StationFolder,
        change: ConnectorChange,
        before: Mapping[str, LinkPair],
        added: list[str],
        error: Exception,
    ) -> ConnectorResult:
        """Restore the links before a failed change, as far as the disk permits, and return the result."""
        why = self._why(error, station)
        try:
            turned = station.point(before, forward=False)
        except (OSError, ConnectorError) as again:
            return ConnectorResult(
                ConnectorOutcome.UNKNOWN,
                f"{why} Putting the links back failed too: {self._why(again, station)} "
                f"Look at the links below {station.path} before anything else.",
            )
        extra = ""
        if turned or isinstance(error, HookFailed):
            try:
                self._run_hook(station, change, "put_back")
            except HookFailed as again:
                extra += f" Telling the system so failed too: {again}"
        try:
            station.sweep()
            if not comparison.drops_old(change):
                station.remove_releases({*added, release_id(change.new.sha256)})
            station.forget(change.operation)
            station.tidy()
        except (OSError, ConnectorError):
            extra += f" Files below {station.path} are left over; the next change removes them."
        outcome = ConnectorOutcome.UNREACHABLE if isinstance(error, SystemUnreachable) else ConnectorOutcome.REJECTED
        return ConnectorResult(outcome, f"{why} {_in_force_message(change, before)}{extra}")

    def _add_releases(
        self,
        station: StationFolder,
        change: ConnectorChange,
        before: Mapping[str, LinkPair],
        added: list[str],
    ) -> str | None:
        """Write the releases of the new links; return the old certificate's if a role has no links yet and we have it.

        Appends what was written to `added`, so that it can be removed after a failure.
        """
        if all(move == "drop" for move in change.moves.values()):
            return None
        self._add(station, change, change.new, added)
        if change.old is None or all(links.current for links in comparison.remaining_links(change, before)):
            return None
        try:
            return self._add(station, change, change.old, added)
        except KeyMissing:
            return None

    def _add(
        self, station: StationFolder, change: ConnectorChange, item: InstallableCertificate, added: list[str]
    ) -> str:
        release = release_id(item.sha256)
        folder = station.release(release)
        if folder.is_dir():
            if is_intact(folder, item, private=station.private, bundle_password=self.bundle_password):
                return release
            if release in station.linked():
                raise ConnectorError(f"{folder} is in use, and is not as it was written: set it right by hand.")
            station.remove_releases([release])
        files = build_release_files(
            item, private=station.private, as2_id=change.as2_id, bundle_password=self.bundle_password
        )
        station.add_release(release, files)
        added.append(release)
        return release

    def _differences(self, station: StationFolder, change: ConnectorChange) -> Iterator[str]:
        yield from comparison.differences(station, change)
        if not comparison.drops_old(change) and not is_intact(
            station.release(release_id(change.new.sha256)),
            change.new,
            private=station.private,
            bundle_password=self.bundle_password,
        ):
            yield "files are missing beside the certificate, or the key there belongs to another."
        if self.hook and not station.done(change.operation):
            yield f'the hook "{self.hook}" has not run to its end for this change.'

    def _run_hook(self, station: StationFolder, change: ConnectorChange, phase: str) -> None:
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
                *(word for release in station.linked() for word in stored_passwords(station.releases / release)),
            ],
        )

    def _hook_note(self) -> str:
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

    def _station(self, change: ConnectorChange) -> StationFolder:
        return StationFolder(resolve_below(self.root, self.folder), side=change.side, as2_id=change.as2_id)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConnectorError(f"{self.root / self.folder} can't be read: {error.strerror or error}.") from error

    def _why(self, error: Exception, station: StationFolder) -> str:
        return explain_os_error(error, station.path) if isinstance(error, OSError) else str(error)


def _in_force_message(change: ConnectorChange, before: Mapping[str, LinkPair]) -> str:
    if comparison.drops_old(change):
        return "The old certificate is still accepted beside the new one."
    kept = comparison.remaining_links(change, before)
    if change.old and all(links.current == release_id(change.old.sha256) for links in kept):
        return f"{name_certificate(change.old)} is still in force{comparison.for_partner(change)}."
    return "The folder is as it was before."
