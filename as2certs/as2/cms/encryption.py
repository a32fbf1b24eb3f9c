"""Enveloped data (RFC 5652, 6; RFC 5083 for AES-GCM): encrypt to a certificate, and decrypt.

The envelope is written here for all ciphers, since the builder of `cryptography` knows neither 3DES nor AES-192, and
reads no BER, no OAEP and no subject key identifiers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from as2certs.as2.cms.digests import DIGEST_OIDS, new_digest
from as2certs.as2.cms.structure import (
    AUTH_ENVELOPED_DATA,
    CONTEXT_0,
    CONTEXT_1,
    DATA,
    ENVELOPED_DATA,
    MAX_RECIPIENTS,
    PRIMITIVE_0,
    CertificateId,
    encode_algorithm,
    encode_integer,
    encode_octets,
    encode_oid,
    read_algorithm,
    read_certificate_id,
    read_content,
    reading,
    write_certificate_id,
    write_content,
)
from as2certs.as2.errors import AlgorithmNotSupported, DecryptionFailed, RecipientUnknown
from as2certs.pki.asn1 import SEQUENCE, SET, Asn1Error, Element, encode
from as2certs.pki.errors import PARSER_ERRORS
from as2certs.pki.keys import PrivateKey

KeyFinder = Callable[[CertificateId], PrivateKey | None]
"""Returns the private key of the certificate that an envelope names, or None."""


@dataclass(frozen=True)
class _CipherKind:
    name: str
    key_bytes: int
    block_bytes: int
    algorithm: type[AES | TripleDES | RC2]
    is_weak: bool = False


CIPHERS = {
    "2.16.840.1.101.3.4.1.2": _CipherKind("aes-128-cbc", 16, 16, AES),
    "2.16.840.1.101.3.4.1.22": _CipherKind("aes-192-cbc", 24, 16, AES),
    "2.16.840.1.101.3.4.1.42": _CipherKind("aes-256-cbc", 32, 16, AES),
    "1.2.840.113549.3.7": _CipherKind("3des", 24, 8, TripleDES, is_weak=True),
    "1.2.840.113549.3.2": _CipherKind("rc2", 16, 8, RC2, is_weak=True),
}
"""The ciphers in CBC mode that are read, by object identifier (RFC 3370, RFC 3565)."""
_GCM = {f"2.16.840.1.101.3.4.1.{arc}": (f"aes-{bits}-gcm", bits // 8) for arc, bits in ((6, 128), (26, 192), (46, 256))}
WEAK_CIPHERS = frozenset(kind.name for kind in CIPHERS.values() if kind.is_weak)
_WRITTEN = {kind.name: oid for oid, kind in CIPHERS.items() if kind.name != "rc2"}

_RSA = "1.2.840.113549.1.1.1"
_RSA_OAEP = "1.2.840.113549.1.1.7"
_RC2_128_BITS = 58
"""How RFC 2268, 6 writes 128 effective bits; `cryptography` knows no others."""
DECRYPTION_FAILED = "The message can’t be decrypted with our key: it is damaged, or encrypted to another key."


@dataclass(frozen=True)
class Recipient:
    """One recipient of an envelope (RFC 5652, 6.2.1), whose key was encrypted by RSA."""

    identifier: CertificateId
    algorithm: str
    parameters: Element | None = field(repr=False)
    encrypted_key: bytes = field(repr=False)

    def decrypt_key(self, key: rsa.RSAPrivateKey) -> bytes:
        """Return the content's key; raise ValueError if it can't be decrypted."""
        if self.algorithm == _RSA:
            return key.decrypt(self.encrypted_key, PKCS1v15())
        if self.algorithm == _RSA_OAEP:
            return key.decrypt(self.encrypted_key, _read_oaep(self.parameters))
        raise AlgorithmNotSupported(f"The key is encrypted by {self.algorithm}, and only RSA is supported.")


@dataclass(frozen=True)
class Envelope:
    """Encrypted content, and the recipients that can read it."""

    recipients: tuple[Recipient, ...]
    cipher: str
    parameters: Element | None = field(repr=False)
    encrypted: bytes = field(repr=False)
    authenticated: bytes = field(default=b"", repr=False)
    tag: bytes = field(default=b"", repr=False)

    @property
    def cipher_name(self) -> str:
        """Return the cipher as in "aes-256-cbc", or its object identifier if it is not supported."""
        if self.cipher in CIPHERS:
            return CIPHERS[self.cipher].name
        return _GCM[self.cipher][0] if self.cipher in _GCM else self.cipher

    @property
    def is_weak(self) -> bool:
        return self.cipher_name in WEAK_CIPHERS

    def decrypt(self, find_key: KeyFinder) -> tuple[bytes, CertificateId]:
        """Return the content, and the recipient whose key was found.

        Raises RecipientUnknown without a key, AlgorithmNotSupported, and DecryptionFailed. Decryption errors are
        indistinguishable, so that there is no padding oracle: a content key that can't be decrypted by PKCS#1 v1.5 is
        replaced by a random one (RFC 3218, 2.3.2).
        """
        if self.cipher not in CIPHERS and self.cipher not in _GCM:
            raise AlgorithmNotSupported(f"The cipher {self.cipher} is not supported: use AES-256-CBC.")
        for recipient in self.recipients:
            key = find_key(recipient.identifier)
            if isinstance(key, rsa.RSAPrivateKey):
                break
        else:
            named = "; ".join(str(one.identifier) for one in self.recipients[:3]) or "none with an RSA key"
            raise RecipientUnknown(f"The message is encrypted to a certificate whose key is not here ({named}).")
        content_key = os.urandom(self._key_bytes())
        with suppress(*PARSER_ERRORS):
            found = recipient.decrypt_key(key)
            content_key = found if len(found) == len(content_key) else content_key
        try:
            return self._decrypt_content(content_key), recipient.identifier
        except UnsupportedAlgorithm:
            raise AlgorithmNotSupported(
                f"The cipher {self.cipher_name} is not supported on this machine: use AES-256-CBC."
            ) from None
        except (InvalidTag, *PARSER_ERRORS):
            raise DecryptionFailed(DECRYPTION_FAILED) from None

    def _key_bytes(self) -> int:
        return CIPHERS[self.cipher].key_bytes if self.cipher in CIPHERS else _GCM[self.cipher][1]

    def _decrypt_content(self, key: bytes) -> bytes:
        if self.parameters is None:
            raise Asn1Error("no initialisation vector")
        if self.cipher in _GCM:
            nonce = self.parameters.children()[0].octets()
            opened = Cipher(AES(key), modes.GCM(nonce, self.tag, min_tag_length=len(self.tag))).decryptor()
            opened.authenticate_additional_data(self.authenticated)
            return opened.update(self.encrypted) + opened.finalize()
        kind = CIPHERS[self.cipher]
        vector = self.parameters
        if kind.algorithm is RC2:
            version, vector = self.parameters.children()
            if version.integer() != _RC2_128_BITS:
                raise UnsupportedAlgorithm("other than 128 effective bits")
        decryptor = Cipher(kind.algorithm(key), modes.CBC(vector.octets())).decryptor()
        unpadder = PKCS7(kind.block_bytes * 8).unpadder()
        padded = decryptor.update(self.encrypted) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()


def encrypt(content: bytes, certificate: x509.Certificate, cipher: str = "aes-256-cbc") -> bytes:
    """Return content encrypted to a certificate, in DER: its key by RSA with PKCS#1 v1.5 padding.

    `cipher` is aes-128-cbc, aes-192-cbc, aes-256-cbc, or 3des for old peers. Raises AlgorithmNotSupported for others,
    and for certificates without an RSA key.
    """
    public_key = certificate.public_key()
    if cipher not in _WRITTEN or not isinstance(public_key, rsa.RSAPublicKey):
        raise AlgorithmNotSupported(f"Encrypt to a certificate with an RSA key, by {', '.join(_WRITTEN)}.")
    kind = CIPHERS[_WRITTEN[cipher]]
    key, vector = os.urandom(kind.key_bytes), os.urandom(kind.block_bytes)
    padder = PKCS7(kind.block_bytes * 8).padder()
    encryptor = Cipher(kind.algorithm(key), modes.CBC(vector)).encryptor()
    padded = padder.update(content) + padder.finalize()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    recipient = encode(
        SEQUENCE,
        encode_integer(0),
        write_certificate_id(certificate),
        encode_algorithm(_RSA),
        encode_octets(public_key.encrypt(key, PKCS1v15())),
    )
    algorithm = encode_algorithm(_WRITTEN[cipher], encode_octets(vector))
    inner = encode(SEQUENCE, encode_oid(DATA), algorithm, encode(PRIMITIVE_0, encrypted))
    return write_content(ENVELOPED_DATA, encode(SEQUENCE, encode_integer(0), encode(SET, recipient), inner))


def read_envelope(data: bytes) -> Envelope:
    """Return enveloped data in BER or DER. Raises MalformedMessage."""
    with reading("the encrypted message"):
        kind, enveloped = read_content(data, ENVELOPED_DATA, AUTH_ENVELOPED_DATA)
        _, *parts = enveloped.children()
        if parts[0].identifier == CONTEXT_0:  # certificates of the originator
            parts.pop(0)
        infos, inner, *rest = parts
        recipients = tuple(_read_recipient(one) for one in infos.children() if one.identifier == SEQUENCE)
        if len(recipients) > MAX_RECIPIENTS:
            raise Asn1Error("too many recipients")
        _, algorithm, content = inner.children()
        if content.identifier not in (PRIMITIVE_0, CONTEXT_0):
            raise Asn1Error("no encrypted content")
        cipher, parameters = read_algorithm(algorithm)
        if (kind == AUTH_ENVELOPED_DATA) != (cipher in _GCM):
            raise Asn1Error("a cipher of another kind of envelope")
        authenticated = tag = b""
        if kind == AUTH_ENVELOPED_DATA:
            if rest[0].identifier == CONTEXT_1:  # authenticated as the DER of a SET OF (RFC 5083, 2.2)
                authenticated = encode(SET, rest.pop(0).content)
            tag = rest[0].octets()
            if not 12 <= len(tag) <= 16:  # RFC 5084, 3.2
                raise Asn1Error("a tag of another length")
        return Envelope(recipients, cipher, parameters, content.octets(), authenticated, tag)


def _read_recipient(info: Element) -> Recipient:
    _, identifier, algorithm, encrypted_key = info.children()
    oid, parameters = read_algorithm(algorithm)
    return Recipient(read_certificate_id(identifier), oid, parameters, encrypted_key.octets())


def _read_oaep(parameters: Element | None) -> OAEP:
    """Return the padding of RSAES-OAEP (RFC 4055, 4.1), by SHA-1 unless another digest is given."""
    digest: hashes.HashAlgorithm = hashes.SHA1()  # noqa: S303 - the default of the standard
    mask: hashes.HashAlgorithm = hashes.SHA1()  # noqa: S303
    for element in parameters.children() if parameters is not None else []:
        (value,) = element.children()
        oid, inner = read_algorithm(value)
        if element.identifier == CONTEXT_0:
            digest = new_digest(DIGEST_OIDS.get(oid, oid))
        elif element.identifier == CONTEXT_1 and inner is not None:
            oid, _ = read_algorithm(inner)
            mask = new_digest(DIGEST_OIDS.get(oid, oid))
        else:
            raise AlgorithmNotSupported("The key is encrypted by RSA-OAEP with a label, which is not supported.")
    return OAEP(MGF1(mask), digest, None)
