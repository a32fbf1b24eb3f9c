"""Signed data (RFC 5652, 5): sign with a detached signature, read one, and verify it."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

from as2certs.as2.cms.digests import DIGEST_OIDS, WEAK_DIGESTS, compute_digest, new_digest
from as2certs.as2.cms.structure import (
    CONTEXT_0,
    CONTEXT_1,
    DATA,
    MAX_CERTIFICATES,
    MAX_SIGNERS,
    SIGNED_DATA,
    CertificateId,
    read_algorithm,
    read_certificate_id,
    read_content,
    reading,
)
from as2certs.as2.errors import AlgorithmNotSupported, MalformedMessage, SignatureInvalid, SignerUnknown
from as2certs.pki.asn1 import OID, SEQUENCE, SET, Asn1Error, Element, encode, read_element, to_der
from as2certs.pki.describing import load_der
from as2certs.pki.errors import PARSER_ERRORS, PkiError
from as2certs.pki.keys import PrivateKey

_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_RSA = {"1.2.840.113549.1.1.1": ""} | {
    f"1.2.840.113549.1.1.{arc}": digest
    for arc, digest in ((5, "sha-1"), (14, "sha-224"), (11, "sha-256"), (12, "sha-384"), (13, "sha-512"))
}
"""RSA with PKCS#1 v1.5 padding, and the digest in its name (RFC 3370, RFC 5754); empty: the signer's digest."""
_RSA_PSS = "1.2.840.113549.1.1.10"
_ECDSA = {"1.2.840.10045.2.1": "", "1.2.840.10045.4.1": "sha-1"} | {
    f"1.2.840.10045.4.3.{arc}": digest for arc, digest in enumerate(("sha-224", "sha-256", "sha-384", "sha-512"), 1)
}


@dataclass(frozen=True)
class Signature:
    """A signature that holds: by which certificate, and with which digest.

    `is_expected` tells whether the certificate is one of those that were expected; otherwise it is the one that came
    inside the signature, which proves nothing about who signed. `signed` are the bytes that the key signed: the signed
    attributes in DER, or without any the content.
    """

    identifier: CertificateId
    certificate: x509.Certificate
    digest: str
    is_expected: bool
    signed: bytes = field(default=b"", repr=False)

    @property
    def is_weak(self) -> bool:
        return self.digest in WEAK_DIGESTS


@dataclass(frozen=True)
class Signer:
    """One signer of signed data (RFC 5652, 5.3): its certificate's name, its algorithms, its signature.

    `digest` is a name as in `DIGESTS`, or an object identifier.
    """

    identifier: CertificateId
    digest: str
    algorithm: str
    parameters: Element | None = field(repr=False)
    attributes: Element | None = field(repr=False)
    signature: bytes = field(repr=False)

    def verify(self, certificate: x509.Certificate, content: bytes, content_type: str = DATA) -> bytes:
        """Verify the digest, then the signature (RFC 5652, 5.4 and 5.6), and return the bytes that were signed.

        Raises SignatureInvalid, AlgorithmNotSupported, and MalformedMessage for other attributes than a signer has.
        """
        if self.attributes is None:
            signed: Iterator[bytes] = iter((content,))
        else:
            with reading("the signature"):
                attributes = _read_attributes(self.attributes)
                signed_type, digest = attributes[_CONTENT_TYPE], attributes[_MESSAGE_DIGEST]
                type_matches = signed_type.dotted() == content_type
                expected = digest.octets()
            if not hmac.compare_digest(expected, compute_digest(content, self.digest)):
                raise SignatureInvalid("The content is not the one that was signed: its digest differs.")
            if not type_matches:
                raise SignatureInvalid("The signature is one of another kind of content.")
            signed = _signed_forms(self.attributes)
        with suppress(*PARSER_ERRORS):
            public_key = certificate.public_key()
            for form in signed:
                with suppress(InvalidSignature):
                    self._verify_with(public_key, form)
                    return form
        raise SignatureInvalid(f"The signature does not match the certificate with {CertificateId.of(certificate)}.")

    def _verify_with(self, key: object, signed: bytes) -> None:
        """Verify bytes by the signer's algorithm; raise InvalidSignature, or AlgorithmNotSupported."""
        if isinstance(key, rsa.RSAPublicKey) and self.algorithm in _RSA:
            digest = new_digest(_RSA[self.algorithm] or self.digest)
            return key.verify(self.signature, signed, padding.PKCS1v15(), digest)
        if isinstance(key, rsa.RSAPublicKey) and self.algorithm == _RSA_PSS:
            name, salt = _read_pss(self.parameters)
            digest = new_digest(name)
            return key.verify(self.signature, signed, padding.PSS(padding.MGF1(digest), salt), digest)
        if isinstance(key, ec.EllipticCurvePublicKey) and self.algorithm in _ECDSA:
            digest = new_digest(_ECDSA[self.algorithm] or self.digest)
            return key.verify(self.signature, signed, ec.ECDSA(digest))
        if self.algorithm in (*_RSA, _RSA_PSS, *_ECDSA):
            raise InvalidSignature
        raise AlgorithmNotSupported(f"The signature algorithm {self.algorithm} is not supported: use RSA with SHA-256.")


@dataclass(frozen=True)
class SignedData:
    """Signed data: its signers, the certificates in DER that came inside, and the content unless it is detached."""

    signers: tuple[Signer, ...]
    certificates: tuple[bytes, ...] = field(repr=False)
    content: bytes | None = field(repr=False)
    content_type: str = DATA

    def verify(self, content: bytes | None, expected: Sequence[x509.Certificate]) -> Signature:
        """Return the signature of the signer whose certificate is expected, else that of the first signer.

        `content` is what was signed, as bytes; None for what is inside. Raises SignerUnknown if no certificate is at
        hand, SignatureInvalid if none of those at hand matches, and the errors of `Signer.verify`.
        """
        content = self.content if content is None else content
        if content is None:
            raise MalformedMessage("The signature is a detached one, without the content that was signed.")
        by_expected = [one for one in self.signers if any(map(one.identifier.names, expected))]
        signer = (by_expected or self.signers)[0]
        known = [one for one in expected if signer.identifier.names(one)]
        certificates = known or [one for one in self._read_certificates() if signer.identifier.names(one)]
        if not certificates:
            raise SignerUnknown(f"The signer's certificate is not known ({signer.identifier}).")
        failure: SignatureInvalid | None = None
        for certificate in certificates:
            try:
                signed = signer.verify(certificate, content, self.content_type)
            except SignatureInvalid as error:
                failure = failure or error
                continue
            return Signature(signer.identifier, certificate, signer.digest, bool(known), signed)
        assert failure is not None
        raise failure

    def _read_certificates(self) -> Iterator[x509.Certificate]:
        """Yield the certificates that can be read; others are no reason to refuse the signature."""
        for der in self.certificates:
            with suppress(PkiError):
                yield load_der(der)


def sign(content: bytes, certificate: x509.Certificate, key: PrivateKey, digest: str = "sha-256") -> bytes:
    """Return a detached signature in DER, with signed attributes and with the certificate inside.

    Raises AlgorithmNotSupported for other keys than RSA and EC, and for other digests than SHA-256, -384 and -512.
    """
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or digest in WEAK_DIGESTS:
        raise AlgorithmNotSupported("Sign with an RSA or EC key, and with SHA-256, SHA-384 or SHA-512.")
    builder = PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, new_digest(digest))  # type: ignore[arg-type]
    options = [PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities]
    return builder.sign(Encoding.DER, options)


def read_signed_data(data: bytes) -> SignedData:
    """Return signed data in BER or DER. Raises MalformedMessage."""
    with reading("the signature"):
        _, signed = read_content(data, SIGNED_DATA)
        _, _, inner, *rest = signed.children()
        kind, *explicit = inner.children()
        content = explicit[0].children()[0].octets() if explicit else None
        infos = rest[-1].children()
        if rest[-1].identifier != SET or not 1 <= len(infos) <= MAX_SIGNERS:
            raise Asn1Error("no signers, or too many")
        inside = next((one.children() for one in rest[:-1] if one.identifier == CONTEXT_0), [])
        certificates = tuple(one.raw for one in inside if one.identifier == SEQUENCE)
        if len(certificates) > MAX_CERTIFICATES:
            raise Asn1Error("too many certificates")
        return SignedData(tuple(map(_read_signer, infos)), certificates, content, kind.dotted())


def _read_signer(info: Element) -> Signer:
    _, identifier, digest, *rest = info.children()
    attributes = rest.pop(0) if rest[0].identifier == CONTEXT_0 else None
    algorithm, signature, *unsigned = rest
    if len(unsigned) > 1 or (unsigned and unsigned[0].identifier != CONTEXT_1):
        raise Asn1Error("more than a signer has")
    digest_oid, _ = read_algorithm(digest)
    oid, parameters = read_algorithm(algorithm)
    return Signer(
        read_certificate_id(identifier),
        DIGEST_OIDS.get(digest_oid, digest_oid),
        oid,
        parameters,
        attributes,
        signature.octets(),
    )


def _read_attributes(attributes: Element) -> dict[str, Element]:
    """Return the value of each signed attribute with one value, by type. Raises Asn1Error for one that is twice."""
    found: dict[str, Element] = {}
    for attribute in attributes.children():
        kind, values = attribute.children()
        name = kind.dotted()
        if kind.identifier != OID or name in found:
            raise Asn1Error("an attribute twice")
        if len(several := values.children()) == 1:
            found[name] = several[0]
    return found


def _signed_forms(attributes: Element) -> Iterator[bytes]:
    """Yield the bytes that may have been signed for the signed attributes, the most usual first.

    They are the DER of a SET OF (RFC 5652, 5.4). Some programs sign the order in which they send, and DER sorts.
    """
    yield encode(SET, attributes.content)
    der = to_der(attributes.raw)
    yield encode(SET, read_element(der).content)
    yield encode(SET, *sorted(one.raw for one in read_element(der).children()))


def _read_pss(parameters: Element | None) -> tuple[str, int]:
    """Return digest and length of the salt of RSASSA-PSS (RFC 4055, 3.1), SHA-1 and 20 unless they are given."""
    digest, salt = "sha-1", 20
    for element in parameters.children() if parameters is not None else []:
        (value,) = element.children()
        if element.identifier == CONTEXT_0:
            oid, _ = read_algorithm(value)
            digest = DIGEST_OIDS.get(oid, oid)
        elif element.identifier == 0xA2:
            salt = value.integer()
    return digest, salt
