"""PKCS#12 files in BER are opened without the BER reader of the library, which it announces to drop.

Its announcement is a warning, and warnings fail a test: these tests fail as well when an upgrade closes our way.
"""

from __future__ import annotations

import warnings

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from as2certs import pki
from as2certs.pki.asn1 import Asn1Error, Element, encode, read_element, to_der
from as2certs.pki.stores import _derive_mac_key, _remade_mac, inspect_pkcs12, pkcs12_in_der
from tests.arrivals.files import pair
from tests.certificates import make_pair
from tests.pki.sentences import error_message


def to_ber(data: bytes) -> bytes:
    """Return DER with indefinite lengths, and with octet strings in pieces, as streaming programs write it."""
    return _to_ber(read_element(data))


def _to_ber(element: Element) -> bytes:
    if element.identifier == 0x04 and len(element.content) > 8:
        middle = len(element.content) // 2
        pieces = encode(0x04, element.content[:middle]) + encode(0x04, element.content[middle:])
        return b"\x24\x80" + pieces + b"\x00\x00"
    if not element.is_constructed:
        return element.raw
    return bytes((element.identifier, 0x80)) + b"".join(map(_to_ber, element.children())) + b"\x00\x00"


def store(hash_name: str) -> bytes:
    algorithm = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha512": hashes.SHA512()}[hash_name]  # noqa: S303
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000).hmac_hash(algorithm)
    protection = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).build("größe".encode())
    certificate, key = pair()
    return pkcs12.serialize_key_and_certificates(b"own", key, certificate, [make_pair("OTHER")[0]], protection)


def with_ber_inside(data: bytes) -> bytes:
    """Return a store whose safes are BER under a MAC of these bytes, as BouncyCastle writes it; itself BER."""
    pfx = read_element(data).children()
    kind, wrapped = pfx[1].children()
    safes = wrapped.children()[0].octets()
    rewritten = to_ber(safes)
    mac = _remade_mac(pfx[2], safes, rewritten, "größe".encode())
    assert mac is not None
    content = encode(0x30, kind.raw, encode(0xA0, encode(0x04, rewritten)))
    return to_ber(encode(0x30, pfx[0].raw, content, mac))


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha512"])
def test_a_store_in_ber_is_opened(hash_name: str) -> None:
    for data in (to_ber(store(hash_name)), with_ber_inside(store(hash_name))):
        material = pki.read_with_key(data, password="größe")
        assert material.leaf == pair()[0]
        assert material.key is not None


def test_the_way_is_ours_alone_and_the_mac_is_as_the_library_makes_it() -> None:
    data = with_ber_inside(store("sha256"))
    ours = pkcs12_in_der(data, "größe".encode())
    assert to_der(ours) == ours
    inside = read_element(ours).children()[1].children()[1].children()[0].octets()
    assert to_der(inside) == inside
    with pytest.warns(UserWarning, match="could not be parsed as DER"):
        assert pkcs12.load_pkcs12(data, "größe".encode()).key is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pkcs12.load_pkcs12(ours, "größe".encode()).key is not None


def test_a_wrong_password_of_a_store_in_ber_is_called_wrong() -> None:
    data = with_ber_inside(store("sha256"))
    message = error_message(lambda: pki.read_with_key(data, password="grösse"), pki.WrongPassword)
    assert "does not open" in message


def test_a_store_in_der_is_not_touched() -> None:
    data = store("sha256")
    assert pkcs12_in_der(data, b"anything") == data


def test_what_is_visible_in_a_store_is_the_same_in_ber_and_der() -> None:
    data = store("sha256")
    assert inspect_pkcs12(to_ber(data)) == inspect_pkcs12(data)


def test_the_key_of_a_mac_is_that_of_the_standard() -> None:
    # The example of Mozilla NSS and OpenSSL for PKCS12KDF: SHA-1, ID 3, "smeg", 20 bytes.
    salt = bytes.fromhex("3d83c0e4546ac140")
    key = _derive_mac_key(b"smeg", salt, 1, "sha1", 64)
    assert key.hex() == "8d967d88f6caa9d714800ab3d48051d63f73a312"


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80", b"\x04\x80\x00\x00", b"\x1f\x81\x01\x00", b"\x30\x85" * 9])
def test_damaged_elements_are_refused(data: bytes) -> None:
    with pytest.raises(Asn1Error):
        to_der(data)


def test_too_deep_structures_are_refused() -> None:
    with pytest.raises(Asn1Error):
        to_der(b"\x30\x80" * 1000 + b"\x00\x00" * 1000)
    deep = b""
    for _ in range(100):
        deep = encode(0x30, deep)
    with pytest.raises(Asn1Error):
        to_der(deep)
