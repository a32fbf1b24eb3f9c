"""What is stored on this machine is read by its owner only; a folder that can't be used is refused in a sentence."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from as2certs import private_folder
from as2certs.private_folder import FolderRefused


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(folder: Path) -> Path:
    """Make a folder as an earlier start with other rights may have left it."""
    for name in ("static", "as2", "broker", "mail"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o755)
    for name in ("db.sqlite3", "db.sqlite3-wal", "secret_key", "vault_keys"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644)
    (folder / "linked").symlink_to(folder.parent)
    folder.chmod(0o777)
    return folder


def test_a_folder_that_others_can_read_is_closed_with_what_is_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    var = open_to_others(tmp_path / "var")
    private_folder.prepare(var)
    found = {path.name: mode(path) for path in (var, *var.iterdir()) if not path.is_symlink()}
    assert found == {
        "var": 0o700,
        "static": 0o755,
        "as2": 0o755,
        "broker": 0o700,
        "mail": 0o700,
        "db.sqlite3": 0o600,
        "db.sqlite3-wal": 0o600,
        "secret_key": 0o600,
        "vault_keys": 0o600,
    }
    assert mode(tmp_path) == 0o755  # a link is not followed


def test_a_folder_that_can_not_be_closed_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o750)

    def refuse(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)  # as for somebody else's folder
    with pytest.raises(FolderRefused, match="can be read by other accounts, and this one can't change that"):
        private_folder.prepare(tmp_path)


def test_a_secret_is_written_whole_or_not_at_all_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    private_folder.write_new(path, "first")
    with pytest.raises(FileExistsError):
        private_folder.write_new(path, "second")
    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == ("first", 0o600, [path])
