"""The public part of a certificate as a file to download or send, named after its holder and fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from as2certs import pki
from identities.stations import AbstractCertificate

#: By format: suffix, content type, and the function that makes the content.
PUBLIC_FORMATS: dict[str, tuple[str, str, Callable[[AbstractCertificate], bytes]]] = {
    "pem": ("pem", "application/x-pem-file", lambda c: pki.to_pem(c.certificate, c.chain)),
    "der": ("cer", "application/pkix-cert", lambda c: pki.to_der(c.certificate)),
    "p7b": ("p7b", "application/x-pkcs7-certificates", lambda c: pki.to_pkcs7(c.certificate, c.chain)),
    "zip": ("zip", "application/zip", lambda c: pki.to_zip(c.certificate, c.chain, name=file_stem(c))),
}


@dataclass(frozen=True)
class PublicFile:
    name: str
    content_type: str
    content: bytes


def public_file(certificate: AbstractCertificate, form: str) -> PublicFile:
    """Return the public part of a certificate in a format of PUBLIC_FORMATS. Raises KeyError for others."""
    suffix, content_type, make = PUBLIC_FORMATS[form]
    return PublicFile(f"{file_stem(certificate)}.{suffix}", content_type, make(certificate))


def file_stem(certificate: AbstractCertificate) -> str:
    """Return the name of a certificate's files, without suffix."""
    return f"{certificate.holder}-{certificate.sha256[:8]}"
