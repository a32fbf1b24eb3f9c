"""Make the files: certificates and keys, and what mail programs, editors, transfers and people do to them."""

from __future__ import annotations

import base64
import io
import quopri
import struct
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate

from as2certs.pki.asn1 import Element, encode, read_element
from tests.certificates import Pair, cert_der, cert_pem, make_pair, rsa_key

SEQUENCE, SET, INTEGER, BITS, OID = 0x30, 0x31, 0x02, 0x03, 0x06
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
_COMMON_NAME = bytes.fromhex("0603550403")
NAME = "ACME-PROD"


@cache
def pair() -> Pair:
    return make_pair(NAME)


def pem() -> bytes:
    return cert_pem(pair()[0])


def der() -> bytes:
    return cert_der(pair()[0])


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def make_zip(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def rebuilt(change: Callable[[list[bytes], list[Element]], object]) -> bytes:
    """Return the certificate after a change of the fields of its TBSCertificate (version first), signed again."""
    certificate, key = pair()
    fields = read_element(certificate.tbs_certificate_bytes).children()
    raw = [field.raw for field in fields]
    change(raw, fields)
    tbs = encode(SEQUENCE, *raw)
    signature = key.sign(tbs, PKCS1v15(), hashes.SHA256())
    return encode(SEQUENCE, tbs, _SHA256_WITH_RSA, encode(BITS, b"\x00", signature))


def named(identifier: int, value: bytes) -> bytes:
    """Return the certificate with another common name, in a string of this type."""
    attribute = encode(SEQUENCE, _COMMON_NAME, encode(identifier, value))
    name = encode(SEQUENCE, encode(SET, attribute))

    def change(raw: list[bytes], _: list[Element]) -> None:
        raw[3] = raw[5] = name

    return rebuilt(change)


def numbered(serial: bytes) -> bytes:
    """Return the certificate with another serial number, the content of an INTEGER."""
    return rebuilt(lambda raw, _: raw.__setitem__(1, encode(INTEGER, serial)))


def of_version(number: int | None) -> bytes:
    """Return the certificate with another number in its version field (2 is version 3), or without that field."""

    def change(raw: list[bytes], _: list[Element]) -> None:
        raw[0] = encode(0xA0, encode(INTEGER, bytes((number,)))) if number is not None else b""

    return rebuilt(change)


def of_country(country: str) -> bytes:
    attribute = encode(SEQUENCE, bytes.fromhex("0603550406"), encode(0x13, country.encode()))
    common = encode(SEQUENCE, _COMMON_NAME, encode(0x0C, NAME.encode()))
    name = encode(SEQUENCE, encode(SET, attribute), encode(SET, common))

    def change(raw: list[bytes], _: list[Element]) -> None:
        raw[3] = raw[5] = name

    return rebuilt(change)


def nameless() -> bytes:
    """Return the certificate with an empty subject and issuer."""

    def change(raw: list[bytes], _: list[Element]) -> None:
        raw[3] = raw[5] = encode(SEQUENCE)

    return rebuilt(change)


def plain_pkcs12(*certificates: x509.Certificate) -> bytes:
    """Return a PKCS#12 file with certificates only, without encryption and without a MAC, as trust stores are."""
    bags = b"".join(
        encode(
            SEQUENCE,
            bytes.fromhex("060b2a864886f70d010c0a0103"),
            encode(
                0xA0,
                encode(
                    SEQUENCE,
                    bytes.fromhex("060a2a864886f70d01091601"),
                    encode(0xA0, encode(0x04, cert_der(certificate))),
                ),
            ),
        )
        for certificate in certificates
    )
    data = bytes.fromhex("06092a864886f70d010701")
    safes = encode(SEQUENCE, encode(SEQUENCE, data, encode(0xA0, encode(0x04, encode(SEQUENCE, bags)))))
    return encode(SEQUENCE, encode(INTEGER, b"\x03"), encode(SEQUENCE, data, encode(0xA0, encode(0x04, safes))))


def own_pkcs12(owner: Pair, others: list[x509.Certificate], password: bytes) -> bytes:
    """Return a PKCS#12 file with a pair and other certificates."""
    more = [PKCS12Certificate(one, f"other {number}".encode()) for number, one in enumerate(others)]
    return pkcs12.serialize_key_and_certificates(b"own", owner[1], owner[0], more, BestAvailableEncryption(password))


def java_keystore(*, with_key: bool) -> bytes:
    """Return a JKS file with one entry: a private key with its certificate, or a certificate."""
    alias = struct.pack(">H", 4) + b"acme" + struct.pack(">Q", 0)
    certificate = struct.pack(">H", 5) + b"X.509" + struct.pack(">I", len(der())) + der()
    if with_key:
        entry = struct.pack(">I", 1) + alias + struct.pack(">I", 64) + b"\x30" * 64 + struct.pack(">I", 1) + certificate
    else:
        entry = struct.pack(">I", 2) + alias + certificate
    return b"\xfe\xed\xfe\xed" + struct.pack(">II", 2, 1) + entry + b"h" * 20


def winmail(name: str, content: bytes) -> bytes:
    """Return a TNEF stream with one attachment (MS-OXTNEF)."""

    def attribute(identifier: bytes, data: bytes) -> bytes:
        return b"\x02" + identifier + struct.pack("<I", len(data)) + data + struct.pack("<H", sum(data) % 65536)

    title = attribute(b"\x10\x80\x01\x00", name.encode("cp1252") + b"\x00")
    return b"\x78\x9f\x3e\x22\x01\x00" + title + attribute(b"\x0f\x80\x06\x00", content)


def mail(name: str, content: bytes, *, first: str = "From: Nora North <nora@northwind.example>") -> bytes:
    """Return an e-mail with an attachment, which begins with this header."""
    attached = base64.encodebytes(content).decode()
    return crlf(
        f"""{first}
To: edi@acme.example
Subject: Our new certificate
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b1"

--b1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Sehr geehrte Damen und Herren, anbei f=C3=BCr Sie unser Zertifikat.

--b1
Content-Type: application/octet-stream; name="{name}"
Content-Disposition: attachment; filename="{name}"
Content-Transfer-Encoding: base64

{attached}
--b1--
""".encode()
    )


def certs_only_mail(p7: bytes) -> bytes:
    """Return an S/MIME entity with certificates only (RFC 8551, 3.9)."""
    head = (
        "MIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=certs-only; name=smime.p7c\n"
        "Content-Transfer-Encoding: base64\n\n"
    )
    return head.encode() + base64.encodebytes(p7)


def dump(data: bytes, *, width: int = 16) -> bytes:
    """Return a hex dump with offsets and a column of text, as hexdump -C prints it."""
    lines = []
    for start in range(0, len(data), width):
        row = data[start : start + width]
        digits = " ".join(f"{octet:02x}" for octet in row[:8]) + "  " + " ".join(f"{octet:02x}" for octet in row[8:])
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)
        lines.append(f"{start:08x}  {digits:<49} |{text}|")
    return "\n".join([*lines, f"{len(data):08x}", ""]).encode()


def xxd(data: bytes) -> bytes:
    """Return a hex dump as xxd prints it."""
    lines = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        groups = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)
        lines.append(f"{start:08x}: {groups:<39}  {text}\n")
    return "".join(lines).encode()


def rtf(data: bytes) -> bytes:
    text = data.decode().replace("\n", "\\par\n")
    return ("{\\rtf1\\ansi\\deff0 {\\fonttbl{\\f0 Courier;}}\\f0 " + text + "}").encode()


def quoted_printable(data: bytes) -> bytes:
    return quopri.encodestring(data).replace(b"==\n-", b"=3D=3D\n-").replace(b"=\n-", b"=3D\n-")


def printed() -> bytes:
    """Return the text of a certificate without the certificate, as openssl x509 -text -noout prints it."""
    return b"""Certificate:
    Data:
        Version: 3 (0x2)
        Serial Number:
            1d:e6:c6:48:f6:f8:80:53:ac:d9:b0:ed:11:88:85:19:2d:ad:d9:9c
        Signature Algorithm: sha256WithRSAEncryption
        Issuer: C=DE, O=ACME, CN=ACME-PROD
        Validity
            Not Before: Jan  1 00:00:00 2026 GMT
            Not After : Dec 13 12:00:00 2027 GMT
        Subject: C=DE, O=ACME, CN=ACME-PROD
        Subject Public Key Info:
            Public Key Algorithm: rsaEncryption
                Public-Key: (2048 bit)
                Modulus:
                    00:ba:7e:03:d3:8e:3f:5e:a5:32:19:81:17:2a:34:
                    ad:5b:cc:54:5d:37:8c:c4:71:0c:27:d4:c1:10:f1
                Exponent: 65537 (0x10001)
"""


def renewed() -> Pair:
    """Return a later certificate of the same name with another key."""
    return make_pair(NAME, not_after=datetime(2029, 1, 1, tzinfo=UTC), key=rsa_key("renewed"))
