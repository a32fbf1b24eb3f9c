"""Seeds of every format, and every reader: any bytes end with a certificate or with one of our errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from as2certs import pki
from tests.certificates import cert_der, cert_pem, key_pem, make_ca, make_pair, p12
from tests.pki.sentences import assert_one_sentence

ROOT = make_ca()
LEAF, KEY = make_pair(issuer=ROOT)
SEEDS = (
    cert_der(LEAF),
    cert_pem(LEAF, ROOT[0]),
    pki.to_pkcs7(LEAF, [ROOT[0]], encoding="der"),
    pki.to_pkcs7(LEAF, [ROOT[0]]),
    p12((LEAF, KEY), "sesame", [ROOT[0]]),
    p12((LEAF, KEY), None),
    key_pem(KEY),
    key_pem(KEY, "sesame"),
    key_pem(KEY, "sesame", traditional=True),
    KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")),
    pki.key_to_der(KEY),
    pki.make_signing_request(KEY, subject=pki.CertificateSubject("ACME"), roles=["sign"]),
)
READERS: tuple[Callable[[bytes], object], ...] = (
    lambda data: pki.read_public(data),
    lambda data: pki.read_public(data, partner=True),
    lambda data: pki.read_with_key(data, password="sesame"),
    lambda data: pki.read_with_key(cert_der(LEAF), key_data=data, key_password="sesame"),
    lambda data: pki.read_key(data, password="sesame"),
    lambda data: pki.read_key(data),
    lambda data: pki.read_ca_response(data, key=KEY),
)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def read_every_way(data: bytes) -> None:
    """Read bytes with every reader, and describe, check and export the result; fail for other errors than ours."""
    for reading in READERS:
        try:
            found = reading(data)
        except pki.PkiError as error:
            assert_one_sentence(str(error))
        else:
            if isinstance(found, pki.Material):
                _use_material(found)


def _use_material(material: pki.Material) -> None:
    described = pki.describe(material.leaf, material.chain)
    assert described.subject.isprintable()
    for finding in pki.check_certificate(described, pki.IntendedUse(("sign", "decrypt"), "production"), now=NOW):
        assert finding.reason.isprintable()
        assert finding.advice.isprintable()
    assert pki.fingerprints_text(material.leaf, material.chain)
    assert pki.to_zip(material.leaf, material.chain, name=described.common_name)
