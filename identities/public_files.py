"""The public part of a certificate as the files that other systems take in, under names that say whose it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from as2certs import pki
from identities.stations import AbstractCertificate

#: By format: suffix, content type, and how it is made from the certificate and its chain.
PUBLIC_FORMATS: dict[str, tuple[str, str, Callable[[AbstractCertificate], bytes]]] = {
    "pem": ("pem", "application/x-pem-file", lambda c: pki.to_pem(c.certificate, c.chain)),
    "der": ("cer", "application/pkix-cert", lambda c: pki.to_der(c.certificate)),
    "p7b": ("p7b", "application/x-pkcs7-certificates", lambda c: pki.to_pkcs7(c.certificate, c.chain)),
    "zip": ("zip", "application/zip", lambda c: pki.to_zip(c.certificate, c.chain, name=file_stem(c))),
}


@dataclass(frozen=True)
class PublicFile:
    """A file of a certificate's public part."""

    name: str
    content_type: str
    content: bytes


def public_file(certificate: AbstractCertificate, form: str) -> PublicFile:
    """Return the public part of a certificate in a format of FORMATS. Raises KeyError for another one."""
    suffix, content_type, make = PUBLIC_FORMATS[form]
    return PublicFile(f"{file_stem(certificate)}.{suffix}", content_type, make(certificate))


def file_stem(certificate: AbstractCertificate) -> str:
    """Return how files of a certificate are called: whose, and which."""
    return f"{certificate.holder}-{certificate.sha256[:8]}"
