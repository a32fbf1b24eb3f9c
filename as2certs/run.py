"""Start everything on one machine: what `make run` does. Needs nothing but Python's standard library to begin with.

Also `python -m as2certs.run --install FILE...`: make .venv and install these requirements, if that is not done yet.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # said here, before newer syntax: that is what this line is for
    sys.exit("as2certs: Python 3.11 or later is needed, this is {}.{}.".format(*sys.version_info))

import base64
import contextlib
import errno
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
INSTALLED_STAMP = VENV / "installed.json"
WILDCARD_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104  # only compared with


def exit_with(line: str) -> NoReturn:
    """End with one line."""
    sys.exit(f"as2certs: {line}")


def install_requirements(*files: str) -> None:
    """Make .venv and install these requirement files, unless exactly that was done before."""
    wanted = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in files}
    if not is_usable_python(PYTHON):
        make_venv()
    with contextlib.suppress(OSError, ValueError):
        if wanted.items() <= json.loads(INSTALLED_STAMP.read_text()).items():
            return
    print("Installing what is needed. The first time this takes a minute or two.", flush=True)
    listed = [word for name in files for word in ("-r", name)]
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check", *listed]
    if subprocess.run(pip, cwd=ROOT, check=False).returncode:
        exit_with("Python packages could not be installed; the lines above say why. Is the network there?")
    INSTALLED_STAMP.write_text(json.dumps(wanted))


def is_usable_python(python: Path) -> bool:
    """Tell whether this interpreter is there, starts, and is new enough: a .venv may have outlived its Python."""
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    return (
        python.exists()
        and subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0
    )


def make_venv() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], check=False, capture_output=True, text=True
    )
    if not made.returncode:
        return
    said = (made.stdout + made.stderr).strip()
    if "ensurepip" in said:
        exit_with(
            "This Python can't make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"
        )
    exit_with(f"{VENV} could not be made: {said.splitlines()[-1] if said else 'no reason was given'}")


def check_folder(folder: Path) -> None:
    """Make a folder where it is missing (for nobody else's eyes), and try to write in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        exit_with(
            f"{folder} can't be written: {error.strerror}. Change its rights, or set AS2CERTS_VAR to another folder."
        )


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
    """Make the secrets that come neither from the environment nor from an earlier start, readable by us only."""
    vault_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    for name, file, value in (
        ("SECRET_KEY", "secret_key", secrets.token_urlsafe(50)),
        ("AS2CERTS_VAULT_KEYS", "vault_keys", vault_key),
    ):
        given = os.environ.get(name) or os.environ.get(f"{name}_FILE")
        if given or (folder / file).exists():
            continue
        handle = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as opened:
            opened.write(value + "\n")


def run_management_command(*arguments: str) -> None:
    """Run a command of manage.py; it has said itself what went wrong."""
    returncode = subprocess.run([PYTHON, "manage.py", *arguments], cwd=ROOT, check=False).returncode
    if returncode:
        sys.exit(returncode)


def run_processes() -> int:
    """Run the processes of the Procfile until one ends or somebody ends us, and end all of them.

    They live in a session of their own, so a Ctrl-C or a closed terminal reaches only us, once, and is passed on.
    """
    asked: list[int] = []

    def end(number: int, frame: object) -> None:
        asked.append(number)
        honcho.terminate()

    honcho = subprocess.Popen([PYTHON, "-m", "honcho", "start"], cwd=ROOT, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    returncode = honcho.wait()
    if asked:
        print("Everything has ended.", flush=True)
        return 0
    print(
        "as2certs: One of the processes ended by itself, so all were ended; its last lines say why.",
        flush=True,
    )
    return returncode or 1


def run() -> int:
    """Install, make ready, and serve."""
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
    return run_processes()


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--install"]:
        check_folder(ROOT)
        install_requirements(*arguments[1:])
        return 0
    return run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
