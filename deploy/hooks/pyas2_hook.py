#!/usr/bin/env python3
"""Hook and read-back command for django-pyas2 (1.2): puts certificates into its database, and reads which are used.

Runs with the Python of django-pyas2's own environment, as AS2CERTS_HOOKS names it:

    {"pyas2":      ["/opt/pyas2/venv/bin/python", "/opt/as2certs/deploy/hooks/pyas2_hook.py",
                    "--project", "/opt/pyas2/project", "--settings", "project.settings"],
     "pyas2-read": [… the same words …, "--read-back"]}

django-pyas2 has one key to sign and one to decrypt with, one certificate to verify and one to encrypt with, and reads
them for each message: what it holds is in use at once. It can't hold two for one role, so the form of the AS2 system
answers all questions about two certificates and about certificates per partner with no, as the AS2 software
"django-pyas2" does; a change that adds a second one is refused here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNREACHABLE = 75
#: The fields of django-pyas2 by role.
FIELDS = {
    "sign": "signature_key",
    "decrypt": "encryption_key",
    "verify": "signature_cert",
    "encrypt": "encryption_cert",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", required=True, help="the folder of the Django project that runs django-pyas2")
    parser.add_argument("--settings", required=True, help="its settings module")
    parser.add_argument(
        "--read-back", action="store_true", help="print which certificates are used, and change nothing"
    )
    options = parser.parse_args()
    sys.path.insert(0, options.project)
    os.environ["DJANGO_SETTINGS_MODULE"] = options.settings
    import django  # only after its settings are known
    from django.db import OperationalError, transaction

    django.setup()
    try:
        with transaction.atomic():
            (read_back if options.read_back else write)()
    except OperationalError as error:
        print(f"The database of django-pyas2 does not answer: {error}")
        sys.exit(UNREACHABLE)


def write() -> None:
    """Put the current certificate of each role of the change into its field."""
    if os.environ["AS2CERTS_PHASE"] == "stage":
        sys.exit(
            "django-pyas2 holds one certificate for each role, so a second one can't be added. Answer “Decrypts with "
            "two certificates”, “Verifies messages with two certificates” and “Verifies MDNs with two certificates” "
            "with no in the form of the AS2 system, and plan the change anew."
        )
    if os.environ["AS2CERTS_PARTNER"]:
        sys.exit(
            "django-pyas2 signs with one key for all partners. Answer “Signs messages with a certificate per partner” "
            "and “Signs MDNs with a certificate per partner” with no in the form of the AS2 system, and plan the "
            "change anew."
        )
    station = find_station()
    for role in os.environ["AS2CERTS_ROLES"].split(","):
        release = os.environ[f"AS2CERTS_{role.upper()}_CURRENT"]
        if not release:
            sys.exit(f"It is not known which certificate is used to {role}: write the baseline first.")
        setattr(
            station, FIELDS[role], find_or_add(Path(release), os.environ[f"AS2CERTS_{role.upper()}_CURRENT_SHA256"])
        )
    station.save()
    if os.environ["AS2CERTS_PHASE"] == "retire":
        remove_unused()
    print(f"{station.as2_name} uses {os.environ['AS2CERTS_SHA256'][:16]} for {os.environ['AS2CERTS_ROLES']}.")


def read_back() -> None:
    """Print the SHA-256 of the certificate in each field."""
    station = find_station()
    roles = ("sign", "decrypt") if os.environ["AS2CERTS_SIDE"] == "own" else ("verify", "encrypt")
    print(json.dumps({role: fingerprint(getattr(station, FIELDS[role])) for role in roles}))


def find_station() -> Any:
    """Return the Organization or Partner of the change, locked until the end of the transaction."""
    from pyas2.models import Organization, Partner

    model = Organization if os.environ["AS2CERTS_SIDE"] == "own" else Partner
    found = model.objects.select_for_update().filter(as2_name=os.environ["AS2CERTS_AS2_ID"]).first()
    if found is None:
        sys.exit(
            f"django-pyas2 has no {model.__name__.lower()} {os.environ['AS2CERTS_AS2_ID']}: set it up there first."
        )
    return found


def find_or_add(release: Path, sha256: str) -> Any:
    """Return the row of a certificate, and add it if there is none."""
    from pyas2.models import PrivateKey, PublicCertificate

    model: Any = PrivateKey if os.environ["AS2CERTS_SIDE"] == "own" else PublicCertificate
    name = f"{prefix()}{sha256[:32]}"
    row = model.objects.filter(name=name).first()
    if row is not None and fingerprint(row) == sha256:
        return row
    certificate = (release / "cert.pem").read_bytes()
    if model is PrivateKey:
        if not (release / "bundle.pass").exists():
            sys.exit("This hook needs the random password of each bundle: take AS2CERTS_BUNDLE_PASSWORD off.")
        password = (release / "bundle.pass").read_text()
        return model.objects.create(name=name, key=(release / "bundle.p12").read_bytes(), key_pass=password)
    # The partner's certificate itself was compared and accepted: no chain is asked for.
    return model.objects.create(name=name, certificate=certificate, verify_cert=False)


def remove_unused() -> None:
    """Delete the rows that this hook has added for the station and that no field refers to any more."""
    from pyas2.models import PrivateKey, PublicCertificate

    unused: dict[Any, dict[str, None]] = {
        PrivateKey: {"organization": None, "org_s": None},
        PublicCertificate: {"partner": None, "partner_s": None},
    }
    for model, references in unused.items():
        model.objects.filter(name__startswith=prefix(), **references).delete()


def prefix() -> str:
    """Return how the names of the rows begin that belong to the station of the change."""
    return f"AS2 Certs, {os.environ['AS2CERTS_AS2_ID']}: "


def fingerprint(row: Any) -> str | None:
    """Return the SHA-256 of the certificate in a row (PEM, DER or PKCS#12), None for no row."""
    if row is None:
        return None
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

    content = bytes(getattr(row, "key", None) or row.certificate)
    password = (getattr(row, "key_pass", "") or "").encode() or None
    readers: tuple[Callable[[], Any], ...] = (
        lambda: x509.load_pem_x509_certificate(content[max(content.find(b"-----BEGIN CERTIFICATE"), 0) :]),
        lambda: x509.load_der_x509_certificate(content),
        lambda: pkcs12.load_key_and_certificates(content, password)[1],
    )
    for read in readers:
        try:
            return hashlib.sha256(read().public_bytes(Encoding.DER)).hexdigest()
        except ValueError:
            continue
    sys.exit(f"The certificate in “{row.name}” can't be read.")


if __name__ == "__main__":
    main()
