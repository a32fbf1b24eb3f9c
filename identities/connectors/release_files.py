"""The files of a release: one certificate, and for identities its private key."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from as2certs import pki
from identities.connectors.base import ConnectorError, InstallableCertificate
from identities.connectors.station_folder import read_file

PUBLIC_MODE = 0o666
"""Restricted by the umask: readable for everybody who can open the folder."""
SECRET_MODE = 0o600

BUNDLE_ENCRYPTION = pki.Pkcs12Encryption(rounds=2048)
"""As many rounds as OpenSSL uses. More would slow down each change and protect nothing: the key is beside it, open."""

ReleaseFiles = Mapping[str, tuple[bytes, int]]


class KeyMissing(ConnectorError):
    """The private key of an identity's certificate is not stored, or can't be unsealed."""


def build_release_files(
    item: InstallableCertificate, *, private: bool, as2_id: str, bundle_password: str = ""
) -> ReleaseFiles:
    """Return content and mode of the files of a release, with `private` including the private key.

    Without `bundle_password` the PKCS#12 gets a random password, in a file beside it. Raises ConnectorError if the
    certificate does not match its fingerprint, or the key is missing or does not match.
    """
    certificate, chain = parse_certificates(item)
    files = {
        "cert.pem": (certificate.public_bytes(Encoding.PEM), PUBLIC_MODE),
        "chain.pem": (b"".join(issuer.public_bytes(Encoding.PEM) for issuer in chain), PUBLIC_MODE),
    }
    if private:
        key = open_key(item)
        if pki.public_key_sha256(key) != pki.public_key_sha256(certificate):
            raise KeyMissing(
                f"The private key does not belong to the certificate {_short_name(item)}: nothing was written."
            )
        password = bundle_password or secrets.token_urlsafe(24)
        bundle = pki.to_pkcs12(certificate, chain, key, password=password, name=as2_id, encryption=BUNDLE_ENCRYPTION)
        files["key.pem"] = (key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), SECRET_MODE)
        files["bundle.p12"] = (bundle, SECRET_MODE)
        if not bundle_password:
            files["bundle.pass"] = (password.encode(), SECRET_MODE)
    manifest = {
        "as2_id": as2_id,
        "sha256": item.sha256,
        "serial": str(item.serial),  # as text: JSON readers round numbers of this size
        "not_before": item.not_before.isoformat(),
        "not_after": item.not_after.isoformat(),
        "files": sorted(files),
    }
    files["manifest.json"] = (json.dumps(manifest, indent=2).encode() + b"\n", PUBLIC_MODE)
    return files


def is_intact(release: Path, item: InstallableCertificate, *, private: bool, bundle_password: str = "") -> bool:
    """Return whether a release has all files of a certificate, and for identities the matching key."""
    wanted = ["chain.pem", "manifest.json"]
    if private:
        wanted += ["bundle.p12"] if bundle_password else ["bundle.p12", "bundle.pass"]
    if not all((release / name).is_file() for name in wanted):
        return False
    try:
        (certificate,) = pki.load_pem(read_file(release / "cert.pem"))
        if hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() != item.sha256:
            return False
        return not private or pki.pem_key_matches(read_file(release / "key.pem"), certificate)
    except (FileNotFoundError, ValueError, TypeError, pki.UnreadableFile):
        return False


def stored_passwords(release: Path) -> tuple[str, ...]:
    """Return the password in a release, if there is one, so that it can be masked in messages."""
    try:
        return (read_file(release / "bundle.pass").decode("utf-8", "replace"),)
    except FileNotFoundError:
        return ()


def parse_certificates(item: InstallableCertificate) -> tuple[x509.Certificate, list[x509.Certificate]]:
    try:
        (certificate,) = pki.load_pem(item.certificate_pem)
        chain = [*pki.load_pem(item.chain_pem)]
    except (ValueError, pki.PkiError) as error:
        raise ConnectorError(f"The certificate {_short_name(item)} or its chain is no PEM that can be read.") from error
    if hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() != item.sha256:
        raise ConnectorError(
            f"The certificate is not the one with the fingerprint {_short_name(item)}: check the inventory."
        )
    return certificate, chain


def open_key(item: InstallableCertificate) -> pki.PrivateKey:
    key = None
    if item.key is not None:
        try:
            key = item.key()
        except pki.PkiError as error:
            raise KeyMissing(f"The private key of {_short_name(item)} can't be opened: {error}") from error
    if key is None:
        raise KeyMissing(f"The private key of {_short_name(item)} is not held here: take it in, then retry.")
    return key


def _short_name(item: InstallableCertificate) -> str:
    return str(pki.short_fingerprint(item.sha256))
