"""Start all processes on one machine, for `make run`. Only the standard library is needed to begin with.

`python -m as2certs.run --install FILE...` only creates .venv and installs these requirements, unless that is done.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # before any newer syntax
    sys.exit("as2certs: Python 3.11 or later is needed, this is {}.{}.".format(*sys.version_info))

import base64
import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from as2certs import private_folder
from as2certs.supervisor import STATE_FILE, Supervisor

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
INSTALLED_STAMP = VENV / "installed.json"
WILDCARD_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104  # only compared


def exit_with(line: str) -> NoReturn:
    """Exit with an error of one line."""
    sys.exit(f"as2certs: {line}")


def install_requirements(*files: str) -> None:
    """Create .venv and install these requirements files, unless that was done before."""
    hashes = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in files}
    if not is_usable_python(PYTHON):
        make_venv()
    with contextlib.suppress(OSError, ValueError):
        if hashes.items() <= json.loads(INSTALLED_STAMP.read_text()).items():
            return
    print("Installing what is needed. The first time this takes a minute or two.", flush=True)
    options = [word for name in files for word in ("-r", name)]
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check", *options]
    if subprocess.run(pip, cwd=ROOT, check=False).returncode:
        exit_with("Python packages could not be installed; the lines above say why. Is the network there?")
    INSTALLED_STAMP.write_text(json.dumps(hashes))


def is_usable_python(python: Path) -> bool:
    """Return whether this interpreter exists, starts and is new enough; the Python of a .venv may be gone."""
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    return python.exists() and subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def make_venv() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], check=False, capture_output=True, text=True
    )
    if not result.returncode:
        return
    output = (result.stdout + result.stderr).strip()
    if "ensurepip" in output:
        exit_with("This Python can't make virtual environments. On Debian and Ubuntu: apt-get install python3-venv")
    exit_with(f"{VENV} could not be made: {output.splitlines()[-1] if output else 'no reason was given'}")


def check_folder(folder: Path, *, private: bool = True) -> None:
    """Create a folder if it is missing, and check that it is writable; a private one is closed to other accounts."""
    try:
        if private:
            private_folder.prepare(folder)
        else:
            with tempfile.TemporaryFile(dir=folder):
                pass
    except private_folder.FolderRefused as error:
        exit_with(str(error))
    except OSError as error:
        exit_with(private_folder.explain(folder, error))


def check_port(host: str, port: str) -> None:
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        exit_with(f"PORT can't be read (it is “{port}”). It should be a number from 1 to 65535.")
    try:
        kind, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            exit_with(
                f"Port {port} is taken by another program. Choose another one: make run PORT={int(port) % 65535 + 1}"
            )
        exit_with(f"{host}:{port} can't be listened on: {error.strerror}.")


def make_secrets(folder: Path) -> None:
    """Create the secrets that are neither in the environment nor in files yet, with mode 0600."""
    vault_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    for name, file, value in (
        ("SECRET_KEY", "secret_key", secrets.token_urlsafe(50)),
        ("AS2CERTS_VAULT_KEYS", "vault_keys", vault_key),
    ):
        given = os.environ.get(name) or os.environ.get(f"{name}_FILE")
        if given or (folder / file).exists():
            continue
        try:
            private_folder.write_new(folder / file, value + "\n")
        except OSError as error:
            exit_with(private_folder.explain(folder, error))


def run_management_command(*arguments: str) -> None:
    """Run a command of manage.py, and exit if it fails; it reports the error itself."""
    returncode = subprocess.run([PYTHON, "manage.py", *arguments], cwd=ROOT, check=False).returncode
    if returncode:
        sys.exit(returncode)


def run_processes(var: Path) -> int:
    """Run the processes of the Procfile until a signal arrives, or until one can't be started."""
    reason = Supervisor(ROOT / "Procfile", state_file=var / STATE_FILE, folder=ROOT).run()
    if reason:
        print(f"as2certs: Everything was ended: {reason}", flush=True)
        return 1
    print("Everything has ended.", flush=True)
    return 0


def run() -> int:
    """Install, prepare and serve."""
    host, port = os.environ.get("HOST") or "127.0.0.1", os.environ.get("PORT") or "8000"
    var = Path(os.environ.get("AS2CERTS_VAR") or ROOT / "var").absolute()
    check_port(host, port)
    check_folder(var)
    install_requirements("requirements.txt")
    make_secrets(var)
    shown = "localhost" if host in WILDCARD_ADDRESSES else host
    os.environ.setdefault("AS2CERTS_BASE_URL", f"http://{shown}:{port}")
    os.environ["PATH"] = f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["PYTHONUNBUFFERED"] = "1"
    os.environ.update(HOST=host, PORT=port)
    run_management_command("make_ready", "--administrator")
    if os.environ.get("DEMO", "") not in ("", "0"):
        run_management_command("load_demo", "--if-empty")
    return run_processes(var)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--install"]:
        check_folder(ROOT, private=False)
        install_requirements(*arguments[1:])
        return 0
    return run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
