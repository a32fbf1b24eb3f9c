"""Write certificates as files to a folder that the AS2 system reads, and run a hook that makes it reload them.

1. Record the links before the change.
2. Write the files of the new certificate to a work folder, sync them, and rename it into place.
3. Point the links `previous` to the old certificate and then `current` to the new one, and write `state.json`.
4. Run the hook, and mark the operation as done, or as pending if the system does not use the change yet.

After a failure the links are restored. After a killed call the next one continues from the record, so that a hook may
run twice for one change.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from as2certs import pki
from identities.connectors import comparison, named_files, state_file
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
    RoleUse,
    StationUse,
)
from identities.connectors.comparison import READER_ROLES, name_certificate
from identities.connectors.folder_probe import explain_os_error, is_executable, probe_writable
from identities.connectors.hooks import DEFAULT_SECONDS, Hook, HookAnswer, HookFailed, SystemUnreachable
from identities.connectors.read_back import UnexpectedUse, WrongUse, compare_answer, parse_answer
from identities.connectors.release_files import KeyMissing, build_release_files, is_intact, stored_passwords
from identities.connectors.station_folder import (
    STATE_FILE,
    LinkPair,
    LinkState,
    StationBusy,
    StationFolder,
    release_id,
    resolve_below,
)

MAX_NAMED = 5
"""How many foreign files in a folder a message names."""


@dataclass(frozen=True)
class DirectoryConnector:
    """The folder of one AS2 system below the root, and the names of its hook and of its read-back command."""

    root: Path
    folder: str
    hook: str = ""
    read_back: str = ""
    file_names: tuple[str, ...] = ()
    hooks: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = DEFAULT_SECONDS
    bundle_password: str = field(default="", repr=False)
    lock_seconds: float = 90.0

    kind: ClassVar[str] = "directory"
    label: ClassVar[str] = "Directory and hook"
    summary: ClassVar[str] = (
        "Changes get here by themselves: new certificates and keys are written to its folder at the agreed "
        "moment, and read back."
    )
    signs_per_partner: ClassVar[bool] = True
    sends_keys: ClassVar[bool] = True
    holds_two: ClassVar[bool] = True

    @classmethod
    def from_settings(
        cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]
    ) -> DirectoryConnector:
        """Return the connector for a system's `config`, with the server's settings; it needs no credentials.

        Its keys are "folder", "hook", "read_back", and "file_names" with a list.
        """
        names = {key: value for key in ("folder", "hook", "read_back") if isinstance(value := config.get(key), str)}
        return cls(
            root=Path(settings.AS2CERTS_DIRECTORY_ROOT),
            folder=names.get("folder", ""),
            hook=names.get("hook", ""),
            read_back=names.get("read_back", ""),
            file_names=tuple(map(str, config.get("file_names") or ())),
            hooks=settings.AS2CERTS_HOOKS,
            seconds=settings.AS2CERTS_HOOK_SECONDS,
            bundle_password=settings.AS2CERTS_BUNDLE_PASSWORD,
        )

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return no lead: what is written is used at once, or when the hook says so."""
        return Lead()

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return that the hook runs again; nothing without a hook."""
        return "The hook runs again for the same change. No certificate or link changes." if config.get("hook") else ""

    @property
    def shows_use(self) -> bool:
        """Whether there is a command that reads back what the system uses."""
        return bool(self.read_back)

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

    def difference(self, change: ConnectorChange) -> Sequence[str]:
        """Return the links that would move, with the releases that they lead to. Raises ConnectorError."""
        with self._reading():
            station = self._station(change)
            before = comparison.state_before(station, change)
            after = comparison.state_after(change, before, None)
        return [
            f"{place}/{name}: {getattr(before[place], name) or 'nothing'} → {getattr(after[place], name) or 'nothing'}"
            for place in after
            for name in ("current", "previous")
            if getattr(before[place], name) != getattr(after[place], name)
        ]

    def used(self, baseline: Baseline) -> StationUse:
        """Return what the links point to, and what the read-back command answers. Raises ConnectorError."""
        with self._reading():
            station = self._station(baseline)
            state = state_file.describe_station(station, None)
            certificates = [one for release in station.linked() if (one := station.certificate(release))]
        where = str(station.path)
        found = [RoleUse(where, role, _linked_use(role, state["roles"])) for role in baseline.roles]
        for partner in sorted({*state["partners"], *baseline.choices}):
            used = _linked_use("sign", state["partners"].get(partner) or state["roles"])
            found.append(RoleUse(where, "sign", used, partner))
        if self.read_back:
            found += self._answered_use(station, baseline)
        ders = map(pki.to_der, certificates)
        return StationUse(tuple(found), {hashlib.sha256(der).hexdigest(): der for der in ders})

    def _answered_use(self, station: StationFolder, baseline: Baseline) -> Iterator[RoleUse]:
        """Yield what the read-back command answers. Raises ConnectorError."""
        try:
            answer = parse_answer(self._run(self._command(self.read_back), station, baseline, "read_back").output)
        except SystemUnreachable as error:
            raise ConnectorUnreachable(str(error)) from error
        except HookFailed as error:
            raise ConnectorError(str(error)) from error
        for role in baseline.roles:
            if role not in answer:
                raise ConnectorError(f"The read-back command says nothing about the role {role}.")
            yield RoleUse("The read-back command", role, answer[role])

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the files and compare their fingerprints, for identities the private key; then ask the system."""
        try:
            with self._reading():
                station = self._station(change)
                wrong = next(iter(self._differences(station, change)), None)
                if wrong:
                    return ConnectorResult(ConnectorOutcome.REJECTED, f"Read back from {station.path}: {wrong}")
                return self._ask_use(station, change)
        except SystemUnreachable as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error))
        except WrongUse as error:
            return self._undo(change, error)
        except UnexpectedUse as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        except HookFailed as error:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                f"{error} The files are stored in {station.path}, and it is not known whether the system uses them.",
            )
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.UNKNOWN, str(error))

    def _ask_use(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        """Ask the system whether it uses what is stored: the hook if that is pending, then the read-back command.

        Raises HookFailed or ConnectorError.
        """
        stored = f"Read back from {station.path}: {name_certificate(change.new)} for {comparison.name_roles(change)}"
        pending = station.pending(change.operation)
        if not pending and not self.read_back:
            return ConnectorResult(ConnectorOutcome.APPLIED, f"{stored}, as wanted.")
        missing, answer = "", "answer of the system"
        if pending and not self._run_hook(station, change, "status").in_use:
            missing = f'says the hook "{self.hook}"'
        if self.read_back:  # also while the hook waits: what it does wrong has to be undone at once
            output = self._run(self._command(self.read_back), station, change, "read_back").output
            lacking = compare_answer(parse_answer(output), change, self._other_roles(station, change))
            missing = missing or lacking
            answer = "read back from the system"
        if missing:
            return ConnectorResult(ConnectorOutcome.PENDING, f"{stored}. The system does not use it yet: {missing}.")
        if pending:
            with station.locked(self.lock_seconds):
                self._complete(station, change)
        others = _others_note(station, change) if comparison.drops_old(change) else ""
        return ConnectorResult(ConnectorOutcome.APPLIED, f"{stored}, in use ({answer}).{others}", in_use=True)

    def _other_roles(self, station: StationFolder, change: ConnectorChange) -> dict[str, list[str]]:
        """Return the fingerprints by the links of the roles that a change leaves as they are."""
        found: dict[str, list[str]] = {}
        for role in sorted(set(station.roles()) - set(change.moves)):
            links = station.links(role)
            found[role] = [sha256 for one in (links.current, links.previous) if one and (sha256 := station.sha256(one))]
        return found

    def _undo(self, change: ConnectorChange, error: WrongUse) -> ConnectorResult:
        """Restore what was there before a change that the system carried out in another way."""
        return self._write(change, lambda station: self._undo_locked(station, change, error))

    def _undo_locked(self, station: StationFolder, change: ConnectorChange, error: WrongUse) -> ConnectorResult:
        before = comparison.state_before(station, change, stored=True)
        if all(station.links(place) == links for place, links in before.items()):
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} What was there before is not known.")
        result = self._restore(station, change, before, [], error)
        if not result.is_undone:
            return result
        return replace(result, message=f"{result.message} The change was undone: mend the hook, then try again.")

    def check(self) -> ConnectorResult:
        """Check that the folder is writable and the hook executable, without running it."""
        try:
            folder = resolve_below(self.root, self.folder)
            named_files.check_names(self.file_names)
            commands = [self._command(name) for name in (self.hook, self.read_back) if name]
            probe_writable(folder)
        except ConnectorError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, str(error))
        except OSError as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, explain_os_error(error, self.root / self.folder))
        for command in commands:
            if not is_executable(command.argv[0]):
                return ConnectorResult(
                    ConnectorOutcome.REJECTED,
                    f'The program {command.argv[0]} of the hook "{command.name}" is not there or may not be run: '
                    "see AS2CERTS_HOOKS.",
                )
        hook_state = f'the hook "{self.hook}" is there' if self.hook else "no hook is set"
        return ConnectorResult(ConnectorOutcome.APPLIED, f"The folder {folder} can be written to, and {hook_state}.")

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Write the new certificate, move the links and run the hook under a lock; restore all on failure."""
        return self._write(change, lambda station: self._apply(station, change))

    def write_baseline(self, baseline: Baseline) -> ConnectorResult:
        """Write the links of roles that have none under a lock, without the hook, since nothing changes by them."""
        return self._write(baseline, lambda station: self._write_baseline(station, baseline))

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Run the hook of a change once more, under a lock; the links stay as they are even if it fails."""
        return self._write(change, lambda station: self._repeat(station, change))

    def _write(
        self, item: ConnectorChange | Baseline, write: Callable[[StationFolder], ConnectorResult]
    ) -> ConnectorResult:
        """Create and lock the station's folder, and call `write` with it."""
        try:
            self._hook()
            named_files.check_names(self.file_names)
            station = self._station(item)
            station.make()
            with station.locked(self.lock_seconds):
                return write(station)
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
        if found in (ConnectorState.NEW, ConnectorState.STORED):
            if not state_file.is_true(station):
                state_file.write_state(station, change.operation)
            named_files.write_files(station, self.file_names)
            already = f"{station.path} holds {name_certificate(change.new)} already{comparison.for_partner(change)}."
            outcome = ConnectorOutcome.PENDING if found is ConnectorState.STORED else ConnectorOutcome.ALREADY_APPLIED
            return ConnectorResult(outcome, already + self._tidy(station))
        if found is ConnectorState.DRIFT:
            raise ConnectorError(comparison.describe_drift(station, change))
        station.sweep()
        before = comparison.state_before(station, change)
        added: list[str] = []
        try:
            beside = self._add_releases(station, change, before, added)
            if change.partner:
                station.name_partner(change.partner, change.as2_id)
            if state_file.recorded_operation(station) != change.operation:  # or a killed call has replaced it
                station.keep_state_file(change.operation)
            station.begin(change.operation, before)
            station.point(comparison.state_after(change, before, beside), forward=True)
            state_file.write_state(station, change.operation)
            named_files.write_files(station, self.file_names)
            answer = self._run_hook(station, change, comparison.hook_phase(change))
            if not answer.in_use:
                station.suspend(change.operation)
                return self._pending(station, change)
            if not comparison.drops_old(change):
                station.finish(change.operation)
        except (OSError, ConnectorError, HookFailed) as error:
            return self._restore(station, change, before, added, error)
        if comparison.drops_old(change):
            return self._remove_old(station, change)
        kept = comparison.remaining_links(change, before)
        alone = beside is None and any(links.current is None for links in kept)
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{station.path} holds {name_certificate(change.new)} for {comparison.name_roles(change)}"
            f", with {'nothing' if alone else name_certificate(change.old)} beside "
            f"it{self._hook_note()}.{self._tidy(station)}",
        )

    def _pending(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        return ConnectorResult(
            ConnectorOutcome.PENDING,
            f"Stored in {station.path}: {name_certificate(change.new)} for {comparison.name_roles(change)}. The system "
            f'does not use it yet, says the hook "{self.hook}".',
        )

    def _write_baseline(self, station: StationFolder, baseline: Baseline) -> ConnectorResult:
        wanted = comparison.baseline_links(baseline)
        missing = comparison.missing_links(station, baseline)
        names = ", ".join(sorted(wanted))
        is_complete = state_file.is_true(station) and not named_files.has_differences(station, self.file_names)
        if not missing and is_complete:
            return ConnectorResult(
                ConnectorOutcome.ALREADY_APPLIED, f"{station.path} holds what the inventory says: {names}."
            )
        station.sweep()
        before = {place: station.links(place) for place in missing}
        added: list[str] = []
        try:
            for item in self._items_of(baseline, missing):
                self._add(station, item, added)
            for partner in baseline.choices:
                station.name_partner(partner, baseline.as2_id)
            station.point(missing, forward=True)
            state_file.write_state(station, state_file.recorded_operation(station) or baseline.operation)
            named_files.write_files(station, self.file_names)
        except (OSError, ConnectorError) as error:
            return self._undo_baseline(station, before, added, error)
        written = ", ".join(missing) or "state.json"
        return ConnectorResult(ConnectorOutcome.APPLIED, f"Written to {station.path}, as it is in use: {written}.")

    def _items_of(self, baseline: Baseline, places: Iterable[str]) -> Iterator[InstallableCertificate]:
        """Yield the certificates of a baseline that the links of some places need."""
        links = [comparison.baseline_links(baseline)[place] for place in places]
        needed = {pair.current for pair in links} | {pair.previous for pair in links}
        every = [item for held in baseline.roles.values() for item in held]
        for item in {item.sha256: item for item in (*every, *baseline.choices.values())}.values():
            if release_id(item.sha256) in needed:
                yield item

    def _undo_baseline(
        self, station: StationFolder, before: LinkState, added: list[str], error: Exception
    ) -> ConnectorResult:
        """Remove what an unfinished baseline has written, as far as the disk permits, and return the result."""
        why = self._why(error, station)
        try:
            station.point(before, forward=False)
            station.sweep()
            station.remove_releases(added)
            station.tidy()
        except (OSError, ConnectorError):
            why += f" Files below {station.path} are left over; the next attempt goes on from them."
        return ConnectorResult(ConnectorOutcome.REJECTED, f"{why} The baseline was not written.")

    def _repeat(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        found = comparison.connector_state(station, change, hooked=bool(self.hook))
        if found not in (ConnectorState.NEW, ConnectorState.STORED):
            raise ConnectorError(
                f"{station.path} no longer holds what this step wrote: a later change is the one to repeat."
            )
        if not self.hook:
            raise ConnectorError("This AS2 system has no hook to run.")
        state_file.write_state(station, change.operation)
        try:
            if not self._run_hook(station, change, comparison.hook_phase(change)).in_use:
                station.suspend(change.operation)
                return self._pending(station, change)
        except SystemUnreachable as error:
            return ConnectorResult(ConnectorOutcome.UNREACHABLE, str(error))
        except HookFailed as error:
            return ConnectorResult(ConnectorOutcome.REJECTED, f"{error} The files are as they were.")
        self._complete(station, change)
        return ConnectorResult(ConnectorOutcome.APPLIED, f'The hook "{self.hook}" ran again for {station.path}.')

    def _complete(self, station: StationFolder, change: ConnectorChange) -> None:
        """Mark a change as done, after the files that it makes superfluous are deleted."""
        if comparison.drops_old(change):
            station.remove_unlinked()
        station.finish(change.operation)

    def _remove_old(self, station: StationFolder, change: ConnectorChange) -> ConnectorResult:
        """Delete the releases without links, and only then mark the change as done."""
        try:
            self._complete(station, change)
        except (OSError, ConnectorError) as error:
            return ConnectorResult(
                ConnectorOutcome.REJECTED,
                "The old certificate is no longer linked, but its files could not be deleted. "
                f"{self._why(error, station)}",
            )
        return ConnectorResult(
            ConnectorOutcome.APPLIED,
            f"{station.path} no longer holds the old certificate for {comparison.name_roles(change)}"
            f"{self._hook_note()}.{_others_note(station, change)}{self._tidy(station)}",
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
        before: LinkState,
        added: list[str],
        error: Exception,
    ) -> ConnectorResult:
        """Restore what was there before a failed change, as far as the disk permits, and return the result."""
        why = self._why(error, station)
        try:
            turned = station.point(before, forward=False)
            self._restore_state_file(station, change.operation)
            named_files.write_files(station, self.file_names)
        except (OSError, ConnectorError) as again:
            return ConnectorResult(
                ConnectorOutcome.UNKNOWN,
                f"{why} Putting the links back failed too: {self._why(again, station)} "
                f"Look at the links below {station.path} before anything else.",
            )
        extra, is_undone = "", True
        if turned or isinstance(error, HookFailed):
            try:
                self._run_hook(station, change, "put_back")
            except HookFailed as again:
                extra += f" Telling the system so failed too: {again}"
                is_undone = False
        try:
            station.sweep()
            if not comparison.drops_old(change):
                station.remove_releases({*added, release_id(change.new.sha256)})
            station.forget(change.operation)
            station.tidy()
        except (OSError, ConnectorError):
            extra += f" Files below {station.path} are left over; the next change removes them."
        outcome = ConnectorOutcome.UNREACHABLE if isinstance(error, SystemUnreachable) else ConnectorOutcome.REJECTED
        return ConnectorResult(outcome, f"{why} {_in_force_message(change, before)}{extra}", is_undone=is_undone)

    def _restore_state_file(self, station: StationFolder, operation: str) -> None:
        """Restore the state file; write it anew if the links were changed by others since it was kept."""
        station.restore_state_file(operation)
        if station.linked() and not state_file.is_true(station):
            state_file.write_state(station, operation)

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
        self._add(station, change.new, added)
        if change.old is None or all(links.current for links in comparison.remaining_links(change, before)):
            return None
        try:
            return self._add(station, change.old, added)
        except KeyMissing:
            return None

    def _add(self, station: StationFolder, item: InstallableCertificate, added: list[str]) -> str:
        """Write the release of a certificate unless it is there, append it to `added`, and return its id."""
        release = release_id(item.sha256)
        folder = station.release(release)
        if folder.is_dir():
            if is_intact(folder, item, private=station.private, bundle_password=self.bundle_password):
                return release
            if release in station.linked():
                raise ConnectorError(f"{folder} is in use, and is not as it was written: set it right by hand.")
            station.remove_releases([release])
        files = build_release_files(
            item, private=station.private, as2_id=station.as2_id, bundle_password=self.bundle_password
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
        if not state_file.is_true(station):
            yield f"{STATE_FILE} does not say what the links say."
        if named_files.has_differences(station, self.file_names):
            yield "the files under other names differ from the links."
        if self.hook and not station.done(change.operation) and not station.pending(change.operation):
            yield f'the hook "{self.hook}" has not run to its end for this change.'

    def _run_hook(self, station: StationFolder, change: ConnectorChange, phase: str) -> HookAnswer:
        hook = self._hook()
        return HookAnswer(in_use=True, output="") if hook is None else self._run(hook, station, change, phase)

    def _run(self, command: Hook, station: StationFolder, item: ConnectorChange | Baseline, phase: str) -> HookAnswer:
        if isinstance(item, ConnectorChange):
            partner, roles, sha256 = item.partner, sorted(item.moves), item.new.sha256
        else:
            partner, roles, sha256 = "", sorted(item.roles), ""
        return command.run(
            cwd=station.path,
            environment={
                "AS2CERTS_OPERATION": item.operation,
                "AS2CERTS_SIDE": item.side,
                "AS2CERTS_AS2_ID": item.as2_id,
                "AS2CERTS_PARTNER": partner,
                "AS2CERTS_ROLES": ",".join(roles),
                "AS2CERTS_PHASE": phase,
                "AS2CERTS_STATION": str(station.path),
                "AS2CERTS_SHA256": sha256,
                **state_file.hook_variables(station, partner),
            },
            hide=[
                self.bundle_password,
                *(word for release in station.linked() for word in stored_passwords(station.releases / release)),
            ],
        )

    def _hook_note(self) -> str:
        return f', and the hook "{self.hook}" ran' if self.hook else ""

    def _hook(self) -> Hook | None:
        return self._command(self.hook) if self.hook else None

    def _command(self, name: str) -> Hook:
        """Return a command of the server's settings by its name. Raises ConnectorError if there is none."""
        argv = self.hooks.get(name)
        if not isinstance(argv, (list, tuple)) or not argv or not all(isinstance(word, str) for word in argv):
            known = ", ".join(sorted(self.hooks)) or "none"
            raise ConnectorError(
                f'The hook "{name}" is not in AS2CERTS_HOOKS, which has: {known}. Choose one of these, or have '
                "it added there as a list of the command and its arguments."
            )
        return Hook(name, tuple(argv), self.seconds)

    def _station(self, item: ConnectorChange | Baseline) -> StationFolder:
        return StationFolder(resolve_below(self.root, self.folder), side=item.side, as2_id=item.as2_id)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConnectorError(f"{self.root / self.folder} can't be read: {error.strerror or error}.") from error

    def _why(self, error: Exception, station: StationFolder) -> str:
        return explain_os_error(error, station.path) if isinstance(error, OSError) else str(error)


def _linked_use(role: str, held: Mapping[str, Any]) -> frozenset[str]:
    """Return what the links of a role stand for: what writes uses the current one alone."""
    links = held.get(role) or {"current": None, "beside": []}
    found = [links["current"], *(links["beside"] if role in READER_ROLES else [])]
    return frozenset(one["sha256"] for one in found if one)


def _others_note(station: StationFolder, change: ConnectorChange) -> str:
    """Return what else is in the folder after the old certificate has left: other certificates, and foreign files."""
    held = {station.sha256(release) for release in station.linked()} - {change.new.sha256}
    notes = [f"other certificates in use: {', '.join(sorted(map(name_certificate, held)))}"] if held else []
    if unknown := station.unknown_entries():
        more = f" and {len(unknown) - MAX_NAMED} more" if len(unknown) > MAX_NAMED else ""
        notes.append(f"what was not put there by this application: {', '.join(unknown[:MAX_NAMED])}{more}")
    return f" It still holds {'; '.join(notes)}." if notes else ""


def _in_force_message(change: ConnectorChange, before: LinkState) -> str:
    if comparison.drops_old(change):
        return "The old certificate is still accepted beside the new one."
    kept = comparison.remaining_links(change, before)
    if change.old and all(links.current == release_id(change.old.sha256) for links in kept):
        return f"{name_certificate(change.old)} is still in force{comparison.for_partner(change)}."
    return "The folder is as it was before."
