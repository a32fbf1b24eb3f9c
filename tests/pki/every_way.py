"""Seeds of every format, and every reader: any bytes end with a certificate or with one of our errors."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from as2certs import pki
from tests.arrivals import files
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
    p12((LEAF, KEY), "größe"),
    key_pem(KEY),
    key_pem(KEY, "sesame"),
    key_pem(KEY, "sesame", traditional=True),
    KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")),
    pki.key_to_der(KEY),
    files.mail("acme.cer", cert_der(LEAF)),
    files.make_zip({"acme.cer": cert_der(LEAF), "acme.key": key_pem(KEY)}),
    files.winmail("acme.cer", cert_der(LEAF)),
    files.java_keystore(with_key=False),
    files.plain_pkcs12(LEAF),
    files.rtf(cert_pem(LEAF)),
    files.quoted_printable(cert_pem(LEAF)),
    files.dump(cert_der(LEAF)),
    base64.encodebytes(cert_pem(LEAF)),
    cert_pem(LEAF).replace(b"-----", "—–—".encode()).replace(b"\n", b"\\n"),
    cert_pem(LEAF).decode().encode("cp037"),
    files.named(0x14, "Müller".encode("latin-1")),
    files.numbered(b"\xff\x01"),
    pki.make_signing_request(KEY, subject=pki.CertificateSubject("ACME"), roles=["sign"]),
)
READERS: tuple[Callable[[bytes], object], ...] = (
    lambda data: pki.read_public(data),
    lambda data: pki.read_public(data, partner=True),
    lambda data: pki.read_with_key(data, password="sesame"),
    lambda data: pki.read_with_key(cert_der(LEAF), key_data=data, key_password="sesame"),
    lambda data: pki.read_key(data, password="sesame"),
    lambda data: pki.read_key(data),
    lambda data: pki.read_with_key(data, password="größe"),
    lambda data: pki.read_ca_response(data, key=KEY),
    pki.contains_private_key,
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
