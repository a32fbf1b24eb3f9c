"""Signed, enveloped and compressed data of the Cryptographic Message Syntax (RFC 5652, RFC 8551, RFC 3274).

Bytes in, bytes out. Structures are read with `as2certs.pki.asn1`, in BER and DER alike; what they mean is decided here,
and each cryptographic operation is one of `cryptography`.
"""

from as2certs.as2.cms.compression import compress, decompress
from as2certs.as2.cms.digests import DIGESTS, WEAK_DIGESTS, Mic, compute_mic, digest_label, normalise_digest
from as2certs.as2.cms.encryption import DECRYPTION_FAILED, WEAK_CIPHERS, Envelope, KeyFinder, encrypt, read_envelope
from as2certs.as2.cms.signing import Signature, SignedData, Signer, read_signed_data, sign
from as2certs.as2.cms.structure import (
    COMPRESSED_DATA,
    MAX_CMS_BYTES,
    MAX_NAME_CHARACTERS,
    SIGNED_DATA,
    CertificateId,
    content_type,
    trailer,
)

__all__ = [
    "COMPRESSED_DATA",
    "DECRYPTION_FAILED",
    "DIGESTS",
    "MAX_CMS_BYTES",
    "MAX_NAME_CHARACTERS",
    "SIGNED_DATA",
    "WEAK_CIPHERS",
    "WEAK_DIGESTS",
    "CertificateId",
    "Envelope",
    "KeyFinder",
    "Mic",
    "Signature",
    "SignedData",
    "Signer",
    "compress",
    "compute_mic",
    "content_type",
    "decompress",
    "digest_label",
    "encrypt",
    "normalise_digest",
    "read_envelope",
    "read_signed_data",
    "sign",
    "trailer",
]
