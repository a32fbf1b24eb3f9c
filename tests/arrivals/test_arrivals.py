"""Each file as it arrives is read, with a note of what was repaired, or named, with the next step."""

from __future__ import annotations

import base64
import gzip
import json
import textwrap
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from as2certs import pki
from as2certs.pki.asn1 import encode
from tests.arrivals import files
from tests.arrivals.files import der, pair, pem
from tests.certificates import cert_der, cert_pem, key_pem, make_ca, make_pair, p12
from tests.pki.sentences import error_message

#: A zero-width space in UTF-8 that was read as Windows-1252.
ZERO_WIDTH_MISREAD = "\u200b".encode().decode("cp1252").encode()
OLD = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 30, tzinfo=UTC)

pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be")


def key() -> bytes:
    return key_pem(pair()[1])


def c_array() -> bytes:
    return textwrap.fill(", ".join(f"0x{octet:02x}" for octet in der()), 72).encode()


def public_key() -> bytes:
    return pair()[1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def p7() -> bytes:
    return pkcs7.serialize_certificates([pair()[0]], Encoding.DER)


#: Files from which a partner's certificate is read, each with a part of the note; empty if there is none.
READ: dict[str, tuple[Callable[[], bytes], str]] = {
    "literal backslash-n": (lambda: pem().replace(b"\n", b"\\n"), "written as “\\n”"),
    "JSON": (lambda: json.dumps({"alias": "acme", "pem": pem().decode()}).encode(), "written as “\\n”"),
    "JSON without BEGIN": (lambda: json.dumps({"x5c": [base64.b64encode(der()).decode()]}).encode(), "BEGIN line"),
    "strings of a program": (lambda: b'"' + pem().strip().replace(b"\n", b'\\n" +\n  "') + b'";', "pieces of a string"),
    "quoted-printable": (lambda: files.quoted_printable(pem()), "quoted-printable"),
    "percent-encoding": (lambda: pem().replace(b"+", b"%2B").replace(b"\n", b"%0A"), "percent"),
    "zero-width spaces": (lambda: pem().replace(b"\n", "\u200b\n".encode()), "invisible characters"),
    "no-break spaces": (lambda: pem().replace(b"\n", "\u00a0\n".encode()), "invisible characters"),
    "a misread zero-width space": (lambda: pem().replace(b"\n", ZERO_WIDTH_MISREAD + b"\n"), "invisible characters"),
    "typographic dashes": (lambda: pem().replace(b"-----", "—–—".encode()), "typographic dashes"),
    "typographic dashes in Windows-1252": (lambda: pem().replace(b"-----", b"\x96\x96-"), "typographic dashes"),
    "HTML": (
        lambda: b"<html><body><p>" + pem().replace(b"\n", b"<br>\n").replace(b"+", b"&#43;") + b"</p></body></html>",
        "tags",
    ),
    "XML": (lambda: b"<X509Certificate>" + base64.b64encode(der()) + b"</X509Certificate>", "tags"),
    "RTF": (lambda: files.rtf(pem()), "RTF"),
    "lower-case BEGIN": (
        lambda: pem().replace(b"BEGIN CERT", b"begin cert").replace(b"END CERT", b"end cert"),
        "small",
    ),
    "no BEGIN line": (lambda: pem().partition(b"\n")[2], "BEGIN line was missing"),
    "no END line": (lambda: pem().rpartition(b"-----END")[0], "END line was missing"),
    "text around base64": (lambda: b"Our certificate:\n\n" + base64.b64encode(der()) + b"\n\nRegards", "BEGIN line"),
    "base64 of a PEM": (lambda: base64.encodebytes(pem()), "base64 once more"),
    "base64 of a PEM in YAML": (lambda: b"kind: Secret\n  tls.crt: " + base64.b64encode(pem()), "base64 once more"),
    "URL-safe base64": (lambda: base64.urlsafe_b64encode(der()).rstrip(b"="), "BEGIN line"),
    "URL-safe base64 in PEM": (lambda: pem().replace(b"+", b"-_"[:1]).replace(b"/", b"_"), "URL-safe"),
    "UTF-16 without mark": (lambda: pem().decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16 big-endian without mark": (lambda: pem().decode().encode("utf-16-be"), "UTF-16"),
    "EBCDIC": (lambda: pem().decode().encode("cp037"), "EBCDIC"),
    "EBCDIC with NEL": (lambda: pem().decode().replace("\n", "\x85").encode("cp1140"), "EBCDIC"),
    "hex digits": (lambda: der().hex(" ").upper().encode(), "hex dump"),
    "hex digits with colons": (lambda: der().hex(":").encode(), "hex dump"),
    "hex digits of C": (lambda: b"{" + ", ".join(f"0x{one:02X}" for one in der()).encode() + b"};", "hex dump"),
    "hexdump -C": (lambda: files.dump(der()), "hex dump"),
    "xxd": (lambda: files.xxd(der()), "hex dump"),
    "xxd of PEM": (lambda: files.xxd(pem()), "hex dump"),
    "indentation": (lambda: b"  " + pem().replace(b"\n", b"\n\t  "), ""),
    "line numbers": (
        lambda: b"\n".join(b"%3d: %s" % (number, line) for number, line in enumerate(pem().splitlines(), 1)),
        "beginning of lines",
    ),
    "numbers as grep prints them": (
        lambda: b"\n".join(b"%d:%s" % (number, line) for number, line in enumerate(pem().splitlines(), 1)),
        "beginning of lines",
    ),
    "an array of C": (lambda: b"unsigned char c[] = {\n" + c_array() + b"\n};\nunsigned int c_len = 9;\n", "hex dump"),
    "decimal numbers": (lambda: ", ".join(map(str, der())).encode(), "hex dump"),
    "base64 of base64 of a PEM": (lambda: base64.b64encode(base64.b64encode(pem())), "base64 once more"),
    "padding with text below": (lambda: pem().replace(b"-----", b"") + b"\nRegards", "BEGIN line was missing"),
    "a gzip archive": (lambda: gzip.compress(der()), "a gzip archive"),
    "trailing bytes": (lambda: der() + b"\x8f" * 64, "64 bytes that follow"),
    "two equal ones": (lambda: der() + der(), ""),
    "a CA behind it": (lambda: cert_der(make_pair("LEAF", issuer=make_ca())[0]) + cert_der(make_ca()[0]), ""),
    "an e-mail": (lambda: files.mail("acme.cer", der()), "an e-mail (“acme.cer”)"),
    "an e-mail that begins otherwise": (lambda: files.mail("a.pem", pem(), first="X-Priority: 3"), "an e-mail"),
    "an e-mail with ZIP": (
        lambda: files.mail("a.zip", files.make_zip({"acme.cer": der()})),
        "a ZIP archive (“acme.cer”)",
    ),
    "S/MIME certs-only": (lambda: files.certs_only_mail(p7()), "an e-mail (“smime.p7c”)"),
    "a ZIP": (lambda: files.make_zip({"readme.txt": b"Hello", "acme.cer": der()}), "a ZIP archive (“acme.cer”)"),
    "the ZIP that we send": (lambda: pki.to_zip(pair()[0], name="acme"), "a ZIP archive"),
    "winmail.dat": (lambda: files.winmail("acme.cer", der()), "a winmail.dat of Outlook (“acme.cer”)"),
    "a PKCS#12 without key": (lambda: files.plain_pkcs12(pair()[0]), ""),
    "a JKS without key": (lambda: files.java_keystore(with_key=False), "a Java keystore"),
    "Latin-1 in a TeletexString": (lambda: files.named(0x14, "Müller Großhandel".encode("latin-1")), ""),
    "Latin-1 in a TeletexString, as PEM": (
        lambda: base64.b64encode(files.named(0x14, "Großmarkt Süd".encode("latin-1"))),
        "",
    ),
    "version 1 with extensions": (lambda: files.of_version(None), ""),
    "version 4": (lambda: files.of_version(3), ""),
    "a country of three letters": (lambda: files.of_country("DEU"), ""),
    "Latin-1 in a PrintableString": (lambda: files.named(0x13, "Müller Großhandel".encode("latin-1")), ""),
    "Latin-1 in an IA5String": (lambda: files.named(0x16, "Müller Großhandel".encode("latin-1")), ""),
    "a BMPString": (lambda: files.named(0x1E, "Müller Großhandel".encode("utf-16-be")), ""),
    "a serial number of 21 octets": (lambda: files.numbered(b"\x01" * 21), ""),
    "a serial number of zero": (lambda: files.numbered(b"\x00"), ""),
    "a negative serial number": (lambda: files.numbered(b"\xff\x01"), ""),
}


@pytest.mark.parametrize("what", READ)
def test_a_partners_certificate_is_read_with_a_note_of_what_was_repaired(what: str) -> None:
    make, note = READ[what]
    material = pki.read_public(make(), partner=True)
    assert "".join(material.notes) if note else not material.notes
    assert note in "; ".join(material.notes)
    assert pki.describe(material.leaf).common_name in (files.NAME, "LEAF", "Müller Großhandel", "Großmarkt Süd")
    for finding in pki.describe_repairs(material.notes):
        assert finding.level == "note"
        assert note in finding.reason


@pytest.mark.parametrize(
    "what", ["typographic dashes", "zero-width spaces", "literal backslash-n", "hex digits", "HTML"]
)
def test_a_key_that_was_mangled_in_the_same_way_is_read_and_fits(what: str) -> None:
    mangle: dict[str, Callable[[bytes], bytes]] = {
        "typographic dashes": lambda data: data.replace(b"-----", "—–—".encode()),
        "zero-width spaces": lambda data: data.replace(b"\n", "\u200b\n".encode()),
        "literal backslash-n": lambda data: data.replace(b"\n", b"\\n"),
        "hex digits": lambda data: data.hex(" ").encode(),
        "HTML": lambda data: data.replace(b"\n", b"<br/>"),
    }
    material = pki.read_with_key(pem(), key_data=mangle[what](key()))
    assert material.key is not None
    assert material.notes


ATTRIBUTE_CERTIFICATE = encode(
    0x30,
    encode(
        0x30,
        b"\x02\x01\x01" + b"\x30\x02\x05\x00" + b"\xa0\x02\x05\x00" + b"\x30\x02\x05\x00" + b"\x02\x01\x05",
        b"\x30\x02\x05\x00" + b"\x30\x00",
    ),
    b"\x30\x02\x05\x00" + b"\x03\x02\x00\x01",
)


def encrypted_truststore() -> bytes:
    entry = pkcs12.PKCS12Certificate(pair()[0], b"acme")
    return pkcs12.serialize_java_truststore([entry], BestAvailableEncryption(b"secret"))


def locked_zip() -> bytes:
    data = bytearray(files.make_zip({"acme.cer": der()}))
    data[6] |= 1  # in the file's own header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # in the central directory
    return bytes(data)


def inherited_dsa() -> bytes:
    dsa = bytes.fromhex("06072a8648ce380401")
    return files.rebuilt(
        lambda raw, _: raw.__setitem__(6, encode(0x30, encode(0x30, dsa), b"\x03\x04\x00\x02\x01\x05"))
    )


def nested_mail(levels: int) -> bytes:
    data = der()
    for _ in range(levels):
        data = files.mail("inner.eml", data)
    return data


#: Files of a partner that are refused, with a part of the sentence.
NAMED: dict[str, tuple[Callable[[], bytes], str]] = {
    "FTP text mode": (lambda: der().replace(b"\n", b"\r\n") if b"\n" in der() else der(), "text mode"),
    "7 bits": (lambda: bytes(octet & 0x7F for octet in der()), "text mode"),
    "an editor": (lambda: der().decode("utf-8", "replace").encode(), "text editor"),
    "a random winmail.dat": (lambda: b"\x78\x9f\x3e\x22" + b"\xb2\x7c\xc8\xe7" * 90, "winmail.dat"),
    "a broken RTF": (lambda: files.rtf(b"Dear colleagues"), "an RTF document"),
    "sst": (lambda: b"\x00\x00\x00\x00CERT\x03\x00\x00\x00" + der(), "export the certificate as .cer or .p7b"),
    "lnk": (
        lambda: bytes.fromhex("4c0000000114020000000000c000000000000046") + b"\x12\xff" * 90,
        "a Windows shortcut",
    ),
    "url": (lambda: b"[InternetShortcut]\r\nURL=https://quayside.example/as2.cer\r\n", "an Internet shortcut"),
    "a serial number of 33 octets": (lambda: files.numbered(b"\x01" * 33), "has 33 octets, where RFC 5280 allows 20"),
    "Latin-1 in a UTF8String": (lambda: files.named(0x0C, "Müller".encode("latin-1")), "not valid UTF-8"),
    "openssl -text -noout": (files.printed, "the printed text of a certificate"),
    "certutil -dump": (
        lambda: b"X509 Certificate:\nVersion: 3\nSerial Number: 5d\nSubject:\n    CN=dump\n",
        "the printed text of a certificate",
    ),
    "certutil -dump in German": (
        lambda: b"X.509-Zertifikat:\nVersion: 3\nSeriennummer: 5d\nAntragsteller:\n    CN=dump\n",
        "the printed text of a certificate",
    ),
    "a fingerprint": (lambda: b"SHA256 Fingerprint=" + b":".join([b"AA"] * 32), "only a fingerprint"),
    "a SHA-1 fingerprint": (lambda: b"Fingerabdruck: " + b" ".join([b"0a"] * 20), "only a fingerprint"),
    "an encrypted PKCS#12 without key": (
        encrypted_truststore,
        "which may hold a private key",
    ),
    "a locked ZIP": (locked_zip, "locked with a password"),
    "a ZIP without a certificate": (lambda: files.make_zip({"a.txt": b"Hello"}), "“a.txt”"),
    "an attribute certificate": (lambda: ATTRIBUTE_CERTIFICATE, "an attribute certificate"),
    "an OCSP response": (lambda: bytes.fromhex("30030a0101"), "an OCSP response"),
    "a DSA key with inherited parameters": (inherited_dsa, "inherited parameters"),
    "a public key": (public_key, "a public key"),
    "too many mails inside each other": (lambda: nested_mail(7), "e-mail"),
}


@pytest.mark.parametrize("what", NAMED)
def test_what_is_no_certificate_is_named_with_the_next_step(what: str) -> None:
    make, expected = NAMED[what]
    message = error_message(lambda: pki.read_public(make(), partner=True), pki.UnreadableFile)
    assert expected in message
    assert "compromised" not in message or "may hold" in message


#: Files of a partner with a private key in them, however it is wrapped.
WITH_KEY: dict[str, Callable[[], bytes]] = {
    "base64 of a PEM": lambda: base64.encodebytes(key()),
    "typographic dashes": lambda: key().replace(b"-----", "—–—".encode()),
    "lower-case BEGIN": lambda: key().replace(b"BEGIN PRIVATE KEY", b"begin private key"),
    "literal backslash-n": lambda: key().replace(b"\n", b"\\n"),
    "JSON without BEGIN": lambda: json.dumps({"key": "".join(key().decode().split("\n")[1:-2])}).encode(),
    "zero-width spaces in its name": lambda: key().replace(b"PRIVATE", "PRI\u200bVATE".encode()),
    "HTML": lambda: key().replace(b"\n", b"<br>").replace(b"PRIVATE", b"<b>PRIVATE</b>"),
    "RTF": lambda: files.rtf(key()),
    "quoted-printable": lambda: files.quoted_printable(key()).replace(b"PRIVATE KEY", b"PRIVATE=20KEY"),
    "hex digits": lambda: key().hex(" ").encode(),
    "hexdump -C of DER": lambda: files.dump(pki.key_to_der(pair()[1])),
    "EBCDIC": lambda: key().decode().encode("cp037"),
    "UTF-16 without mark": lambda: key().decode().encode("utf-16-le"),
    "URL-safe base64": lambda: base64.urlsafe_b64encode(pki.key_to_der(pair()[1])),
    "an encrypted key in base64": lambda: b"".join(key_pem(pair()[1], "sesame").split(b"\n")[1:-2]),
    "behind a certificate in DER": lambda: der() + pki.key_to_der(pair()[1]),
    "mangled behind a certificate": lambda: pem() + key().replace(b"-----BEGIN PRIVATE KEY-----", b"=== key ==="),
    "a JKS": lambda: files.java_keystore(with_key=True),
    "a JKS that is cut off": lambda: files.java_keystore(with_key=True)[:60],
    "a PFX in a ZIP": lambda: files.make_zip({"as2.pfx": p12(pair())}),
    "a PFX in an e-mail": lambda: files.mail("as2.pfx", p12(pair())),
    "a PFX in a ZIP in an e-mail": lambda: files.mail("a.zip", files.make_zip({"as2.pfx": p12(pair())})),
    "a PFX in winmail.dat": lambda: files.winmail("as2.pfx", p12(pair())),
    "a PFX in base64": lambda: base64.encodebytes(p12(pair())),
    "a PFX without encryption": lambda: p12(pair(), None),
    "a key beside a certificate in a ZIP": lambda: files.make_zip({"a.cer": der(), "a.key": key()}),
    "pvk": lambda: b"\x1e\xf1\xb5\xb0" + b"\x00" * 300,
    "ppk": lambda: b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n",
    "JSON Web Key": lambda: (
        b'{"kty": "RSA", "n": "0vx7", "e": "AQAB", "d": "X4cTteJY_gn4FYPsXB8rdXix5vwsg1FLN5E3EaG6"}'
    ),
}


@pytest.mark.parametrize("what", WITH_KEY)
def test_a_private_key_is_found_in_whatever_is_around_it(what: str) -> None:
    data = WITH_KEY[what]()
    assert "compromised" in error_message(lambda: pki.read_public(data, partner=True), pki.PrivateKeyFound)
    assert pki.contains_private_key(data)


@pytest.mark.parametrize("what", READ)
def test_no_private_key_is_suspected_where_there_is_none(what: str) -> None:
    assert not pki.contains_private_key(READ[what][0]())


@pytest.mark.parametrize(
    "text",
    [
        "We begin private key rotation on Monday; please confirm.",
        "Fingerprint: " + ":".join(["AB"] * 32),
        "The window suits us. " * 40,
    ],
)
def test_no_private_key_is_suspected_in_what_people_write(text: str) -> None:
    assert not pki.contains_private_key(text.encode())


def test_of_a_store_with_one_key_the_certificate_that_fits_is_taken() -> None:
    others = [make_pair("PARTNER-1")[0], make_pair("PARTNER-2")[0]]
    material = pki.read_with_key(files.own_pkcs12(pair(), others, b"changeit"), password="changeit")
    assert material.leaf == pair()[0]
    assert material.chain == ()
    assert "“PARTNER-1”, “PARTNER-2”" in material.notes[0]


def test_the_issuers_of_the_certificate_in_a_store_stay_with_it() -> None:
    root = make_ca()
    own = make_pair("LEAF", issuer=root)
    material = pki.read_with_key(files.own_pkcs12(own, [make_pair("PARTNER")[0], root[0]], b"x"), password="x")
    assert (material.leaf, material.chain) == (own[0], (root[0],))


@pytest.mark.parametrize(
    ("made_with", "typed"),
    [
        ("Schlüßel 9", unicodedata.normalize("NFD", "Schlüßel 9")),
        (unicodedata.normalize("NFD", "Schlüßel 9"), "Schlüßel 9"),
        ("SchlÃ¼Ã\x9fel 9", "Schlüßel 9"),
    ],
)
def test_each_form_of_a_password_is_tried(made_with: str, typed: str) -> None:
    assert pki.read_with_key(files.own_pkcs12(pair(), [], made_with.encode()), password=typed).key is not None


def test_a_key_that_was_encrypted_with_a_password_in_latin1_is_opened() -> None:
    data = pair()[1].private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption("größe".encode("latin-1"))
    )
    assert pki.read_key(data, password="größe") is not None


@pytest.mark.parametrize(("password", "where"), [("secret1 ", "ends"), ("secret1\n", "ends"), (" secret1", "begins")])
def test_a_blank_around_a_wrong_password_is_pointed_out(password: str, where: str) -> None:
    store = files.own_pkcs12(pair(), [], b"secret1")
    message = error_message(lambda: pki.read_with_key(store, password=password), pki.WrongPassword)
    assert f"try it without the blank with which it {where}" in message
    encrypted = key_pem(pair()[1], "secret1")
    assert f"with which it {where}" in error_message(lambda: pki.read_key(encrypted, password=password))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: x\nPublic-Lines: 6\nAAAA\n", "PuTTYgen"),
        (b"\x1e\xf1\xb5\xb0" + b"\x00" * 300, "openssl rsa -inform PVK"),
        (files.java_keystore(with_key=True), "keytool -importkeystore"),
    ],
    ids=["ppk", "pvk", "JKS"],
)
def test_another_programs_key_is_named_with_the_way_to_export_it(data: bytes, expected: str) -> None:
    assert expected in error_message(lambda: pki.read_with_key(pem(), key_data=data), pki.UnreadableFile)


def test_a_ca_response_with_only_ca_certificates_says_that_ones_own_is_missing() -> None:
    root = make_ca("Harbour Root")
    issuing = make_ca("Harbour Issuing", issuer=root)
    message = error_message(lambda: pki.read_ca_response(cert_pem(issuing[0], root[0]), key=pair()[1]), pki.KeyMismatch)
    assert "only certificates of CAs (“Harbour Issuing” and “Harbour Root”)" in message


def test_a_teletex_string_is_latin1_even_if_it_is_utf8_too() -> None:
    assert pki.read_public(files.named(0x14, "Müller".encode())).description.subject == "CN=MÃ¼ller"


def test_a_certificate_without_a_subject_has_no_finding_that_breaks() -> None:
    described = pki.read_public(files.nameless(), partner=True).description
    assert (described.subject, described.common_name) == ("", "")


@pytest.mark.parametrize("password", [None, "sesame"])
def test_a_key_in_the_file_tells_which_of_several_certificates_is_meant(password: str | None) -> None:
    others = [make_pair("PARTNER-1")[0], make_pair("PARTNER-2", ca=True)[0]]
    material = pki.read_with_key(
        cert_pem(others[0], pair()[0], others[1]) + key_pem(pair()[1], password), password=password
    )
    assert (material.leaf, material.chain, material.older) == (pair()[0], (), ())
    assert "(“PARTNER-1”, “PARTNER-2”) were left out" in material.notes[0]


def test_a_key_beside_the_file_tells_which_of_several_certificates_is_meant() -> None:
    root = make_ca()
    own, other = make_pair("LEAF", issuer=root), make_pair("OTHER", issuer=root)
    for data in (cert_pem(other[0], root[0], own[0]), pki.to_pkcs7(other[0], [own[0], root[0]])):
        material = pki.read_with_key(data, key_data=key_pem(own[1]))
        assert (material.leaf, material.chain) == (own[0], (root[0],))
        assert "“OTHER”" in material.notes[0]


def test_of_an_old_and_a_new_certificate_the_newer_one_is_offered_with_a_warning() -> None:
    old, new = pair()[0], files.renewed()[0]
    for data in (cert_pem(old, new), cert_pem(new, old)):
        material = pki.read_public(data, partner=True)
        assert (material.leaf, material.older) == (new, (old,))
        (finding,) = material.findings
        assert (finding.code, finding.level) == ("newest-of-several", "warning")
        assert "from 2026-01-01 until 2029-01-01" in finding.reason
        assert "from 2026-01-01 until 2027-12-13" in finding.reason


def test_the_chains_of_an_old_and_a_new_certificate_are_kept_apart() -> None:
    roots = [make_ca("Root 1"), make_ca("Root 2")]
    old = make_pair("LEAF", issuer=roots[0], not_after=datetime(2027, 1, 1, tzinfo=UTC))[0]
    new = make_pair("LEAF", issuer=roots[1], not_after=datetime(2029, 1, 1, tzinfo=UTC))[0]
    material = pki.read_public(cert_pem(old, roots[0][0], new, roots[1][0]), partner=True)
    assert (material.leaf, material.chain, material.older, material.notes) == (new, (roots[1][0],), (old,), ())


def test_a_key_that_is_kept_tells_which_certificate_is_meant_but_not_an_old_one() -> None:
    kept = [pki.public_key_sha256(pair()[1])]
    several = cert_pem(make_pair("PARTNER")[0], pair()[0])
    with pytest.raises(pki.KeyMissing) as caught:
        pki.read_with_key(several, kept_keys=kept)
    assert caught.value.material.leaf == pair()[0]
    newer = cert_pem(files.renewed()[0], pair()[0])
    message = error_message(lambda: pki.read_with_key(newer, kept_keys=kept), pki.UnreadableFile)
    assert "the key of the newest one" in message


def test_the_certificate_of_the_waiting_key_is_taken_out_of_a_ca_response() -> None:
    root = make_ca()
    own, other = make_pair("LEAF", issuer=root), make_pair("OTHER", issuer=root)
    material = pki.read_ca_response(cert_pem(other[0], own[0], root[0]), key=own[1])
    assert (material.leaf, material.chain) == (own[0], (root[0],))
    assert "“OTHER”" in material.notes[0]


def test_a_ca_response_with_two_chains_and_without_ones_own_says_so() -> None:
    data = cert_pem(make_ca("Root 1")[0], make_ca("Root 2")[0])
    message = error_message(lambda: pki.read_ca_response(data, key=pair()[1]), pki.KeyMismatch)
    assert "your own is missing" in message


def test_an_expired_issuer_in_the_file_is_a_warning() -> None:
    root = make_ca("Root")
    old = make_pair(
        "Old Issuing",
        ca=True,
        usages=("key_cert_sign",),
        issuer=root,
        not_after=datetime(2026, 1, 1, tzinfo=UTC),
        not_before=OLD,
    )
    data = cert_pem(make_pair("LEAF", issuer=old)[0], old[0], root[0])
    described = pki.read_public(data, partner=True).description
    use = pki.IntendedUse(("verify",), "production")
    found = {one.code: one for one in pki.check_certificate(described, use, now=NOW)}
    assert "“CN=Old Issuing”" in found["issuer-expired"].reason
    before = {one.code for one in pki.check_certificate(described, use, now=datetime(2025, 12, 31, tzinfo=UTC))}
    assert "issuer-expired" not in before


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: files.of_version(None), "of version 1"),
        (lambda: files.of_country("DEU"), "“DEU” has 3 letters"),
        (lambda: files.of_version(3), "of version 4, which does not exist"),
        (files.nameless, "its subject is empty"),
        (lambda: files.named(0x14, "Müller".encode("latin-1")), "TeletexString"),
        (lambda: files.named(0x13, b"edi@acme_1"), "PrintableString"),
        (lambda: files.numbered(b"\x01" * 21), "has 21 octets"),
        (lambda: files.numbered(b"\x00"), "serial number is 0"),
        (lambda: files.numbered(b"\xff\x01"), "serial number is -255"),
    ],
)
def test_an_irregular_certificate_is_described_with_its_irregularity(make: Callable[[], bytes], problem: str) -> None:
    described = pki.describe(pki.read_public(make(), partner=True).leaf)
    assert any(problem in one for one in described.problems)
    assert described.self_signed
    assert not any("signature" in one for one in described.problems)


def test_a_certificate_of_which_no_pkcs12_can_be_made_says_so() -> None:
    leaf = pki.read_public(files.of_version(3)).leaf
    message = error_message(lambda: pki.to_pkcs12(leaf, [], pair()[1], password="sesame", name="acme"))
    assert "PKCS#12 can't be made of it" in message
