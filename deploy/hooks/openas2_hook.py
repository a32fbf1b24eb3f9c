#!/usr/bin/env python3
"""Hook and read-back command for OpenAS2 (4.9): changes and reads its keystore and the aliases in partnerships.xml.

Needs Python 3.11 and Java's keytool. In AS2CERTS_HOOKS:

    {"openas2":      ["/usr/bin/python3", "/opt/as2certs/deploy/hooks/openas2_hook.py", "--keystore",
                      "/opt/openas2/config/as2_certs.p12", "--password-file", "/etc/as2certs/openas2.pass",
                      "--partnerships", "/opt/openas2/config/partnerships.xml"],
     "openas2-read": [… the same words …, "--read-back"]}

One alias signs and decrypts (of a partner: encrypts and verifies), and a fallback alias only reads. The main alias is
what writes, so a certificate that is only accepted becomes the fallback. OpenAS2 reads both files again by their age,
and refuses every message whose alias its keystore lacks. So the order is: the keystore, a pause until OpenAS2 has read
it, the aliases, a pause again. During the pauses this ends with 79, "not in use yet", and goes on when it is asked
again. Every call compares first, so it may be killed anywhere.

The intervals have to be those of OpenAS2's own configuration. What is read back is what stands in both files: a reload
that OpenAS2 refuses (a wrong password) is not seen from here, so send a test message.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

NOT_YET = 79
#: An entry of `keytool -list`: alias, date, kind, and in the next line the fingerprint of its certificate.
ENTRY = re.compile(r"^(?P<alias>.+?), [^\n]*?, (?P<kind>\w+), *\n[^\n]*\(SHA-256\): (?P<sha256>[0-9A-F:]{95})$", re.M)


class Keystore:
    """The PKCS#12 file of OpenAS2; each change replaces it by a changed copy, which has a fresh age."""

    def __init__(self, path: Path, password_file: Path) -> None:
        self.path, self.password_file = path, password_file

    def aliases(self, *, keys: bool) -> dict[str, str]:
        """Return the aliases by fingerprint: of private keys, or of certificates alone."""
        listed = self._keytool(self.path, "-list")
        kind = "PrivateKeyEntry" if keys else "trustedCertEntry"
        found = (match for match in ENTRY.finditer(listed) if match["kind"] == kind)
        return {match["sha256"].replace(":", "").lower(): match["alias"] for match in found}

    def add(self, alias: str, release: Path) -> None:
        """Import a release: its key with the certificate, or the certificate alone."""

        def load(copy: Path) -> None:
            if not (release / "bundle.p12").exists():
                self._keytool(copy, "-importcert", "-noprompt", "-alias", alias, "-file", str(release / "cert.pem"))
                return
            if not (release / "bundle.pass").exists():
                sys.exit("This hook needs the random password of each bundle: take AS2CERTS_BUNDLE_PASSWORD off.")
            run_keytool(
                "-importkeystore", "-noprompt", "-srckeystore", str(release / "bundle.p12"), "-srcstoretype", "PKCS12",
                "-srcstorepass:file", str(release / "bundle.pass"), "-srcalias", os.environ["AS2CERTS_AS2_ID"],
                "-destkeystore", str(copy), "-deststoretype", "PKCS12",
                "-deststorepass:file", str(self.password_file), "-destalias", alias,
            )  # fmt: skip

        self._replace(load)

    def remove(self, alias: str) -> None:
        self._replace(lambda copy: self._keytool(copy, "-delete", "-alias", alias))

    def _keytool(self, path: Path, *words: str) -> str:
        return run_keytool(
            *words, "-keystore", str(path), "-storetype", "PKCS12", "-storepass:file", str(self.password_file)
        )

    def _replace(self, change: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".as2certs-") as folder:
            copy = Path(folder) / self.path.name
            copy.write_bytes(self.path.read_bytes())
            change(copy)
            replace_file(copy, self.path)


def run_keytool(*words: str) -> str:
    done = subprocess.run(
        ["keytool", "-J-Duser.language=en", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        sys.exit(f"keytool {words[0]} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


def replace_file(new: Path, path: Path) -> None:
    """Put a file in the place of another, with the rights of that one."""
    stat = path.stat()
    new.chmod(stat.st_mode & 0o7777)
    if (stat.st_uid, stat.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        os.chown(new, stat.st_uid, stat.st_gid)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keystore", type=Path, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--partnerships", type=Path, required=True)
    parser.add_argument(
        "--keystore-seconds", type=float, default=300, help="after which OpenAS2 reads the keystore again"
    )
    parser.add_argument("--partnerships-seconds", type=float, default=120, help="… and partnerships.xml")
    parser.add_argument("--read-back", action="store_true", help="print which certificates are used, change nothing")
    options = parser.parse_args()
    keystore = Keystore(options.keystore, options.password_file)
    if options.read_back:
        read_back(keystore, options.partnerships)
        return
    if os.environ["AS2CERTS_PARTNER"]:
        sys.exit(
            "This hook changes the signature for all partners at once. Answer “Signs messages with a certificate per "
            "partner” and “Signs MDNs with a certificate per partner” with no in the form of the AS2 system, and plan "
            "the change anew."
        )
    is_going_back = os.environ["AS2CERTS_PHASE"] == "put_back"
    writer, *readers = wanted_releases()
    aliases = put_into_keystore(keystore, [writer, *readers])
    if not is_going_back:
        wait_for(options.keystore, options.keystore_seconds)
    change_aliases(options.partnerships, aliases[0], aliases[1] if readers else "")
    if not is_going_back:
        wait_for(options.partnerships, options.partnerships_seconds)
    if os.environ["AS2CERTS_PHASE"] in ("retire", "status"):
        remove_retired(keystore, [writer, *readers])


def wanted_releases() -> list[Path]:
    """Return the release of the writing role, and after it that of another certificate that is accepted, if any."""
    writing, reading = ("SIGN", "DECRYPT") if os.environ["AS2CERTS_SIDE"] == "own" else ("ENCRYPT", "VERIFY")
    writer = os.environ[f"AS2CERTS_{writing}_CURRENT"]
    if not writer:
        sys.exit("It is not known which certificate is in use: write the baseline first.")
    names = (f"AS2CERTS_{reading}_CURRENT", f"AS2CERTS_{reading}_BESIDE")
    readers = [path for name in names for path in os.environ[name].split(os.pathsep) if path and path != writer]
    if len(readers) > 1:
        sys.exit("OpenAS2 has one fallback alias, and two certificates are accepted beside the one in use: retire one.")
    return [Path(writer), *map(Path, readers)]


def put_into_keystore(keystore: Keystore, releases: list[Path]) -> list[str]:
    """Import what the keystore lacks, and return the alias of each release; an alias that is there is adopted."""
    found = keystore.aliases(keys=os.environ["AS2CERTS_SIDE"] == "own")
    aliases = []
    for release in releases:
        sha256 = read_fingerprint(release)
        if sha256 not in found:
            found[sha256] = f"as2certs-{sha256[:32]}"
            keystore.add(found[sha256], release)
        aliases.append(found[sha256])
    return aliases


def read_fingerprint(release: Path) -> str:
    return str(json.loads((release / "manifest.json").read_text())["sha256"])


def read_back(keystore: Keystore, partnerships: Path) -> None:
    """Print the fingerprints by role: the main alias writes and reads, the fallback alias reads."""
    element = find_partner(read_xml(partnerships), partnerships)
    is_own = os.environ["AS2CERTS_SIDE"] == "own"
    by_alias = {alias.lower(): sha256 for sha256, alias in keystore.aliases(keys=is_own).items()}
    names = [element.get("x509_alias", ""), element.get("x509_alias_fallback", "")]
    used = [by_alias[name.lower()] for name in names if name.lower() in by_alias]
    writing = used[:1] if names[0].lower() in by_alias else []
    print(json.dumps({"sign" if is_own else "encrypt": writing, "decrypt" if is_own else "verify": used}))


def read_xml(path: Path) -> ET.ElementTree[ET.Element]:
    return ET.parse(path, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))  # the operator's own file


def find_partner(tree: ET.ElementTree[ET.Element], path: Path) -> ET.Element:
    """Return the station's <partner> element."""
    as2_id = os.environ["AS2CERTS_AS2_ID"]
    elements = [element for element in tree.iter("partner") if element.get("as2_id") == as2_id]
    if len(elements) != 1:
        sys.exit(f'{path} has {len(elements)} <partner> elements with as2_id="{as2_id}": it has to have one.')
    return elements[0]


def change_aliases(path: Path, main_alias: str, fallback: str) -> None:
    """Set both aliases of the station's <partner> element, unless they are as wanted."""
    tree = read_xml(path)
    element = find_partner(tree, path)
    if (element.get("x509_alias"), element.get("x509_alias_fallback", "")) == (main_alias, fallback):
        return
    element.set("x509_alias", main_alias)
    element.attrib.pop("x509_alias_fallback", None)
    if fallback:
        element.set("x509_alias_fallback", fallback)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".as2certs-") as folder:
        new = Path(folder) / path.name
        tree.write(new, encoding="utf-8", xml_declaration=True)
        replace_file(new, path)


def wait_for(path: Path, seconds: float) -> None:
    """End with "not in use yet" until OpenAS2 has read a file again."""
    left = path.stat().st_mtime + seconds - time.time()
    if left > 0:
        print(f"OpenAS2 reads {path.name} again within {left:.0f} seconds.")
        sys.exit(NOT_YET)


def remove_retired(keystore: Keystore, kept: list[Path]) -> None:
    """Remove the entries of the certificates that have no role any more; their releases are deleted after this hook."""
    wanted = {read_fingerprint(release) for release in kept}
    found = keystore.aliases(keys=os.environ["AS2CERTS_SIDE"] == "own")
    station = Path(os.environ["AS2CERTS_STATION"])
    linked = {link.resolve() for name in ("current", "previous") for link in station.glob(f"*/{name}")}
    for release in (station / "releases").iterdir():
        sha256 = read_fingerprint(release)
        if release.resolve() not in linked and sha256 not in wanted and sha256 in found:
            keystore.remove(found[sha256])


if __name__ == "__main__":
    main()
