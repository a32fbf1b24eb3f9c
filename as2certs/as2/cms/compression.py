"""Compressed data (RFC 3274): zlib in a structure of CMS, with a limit on what comes out."""

from __future__ import annotations

import zlib

from as2certs.as2.cms.structure import (
    COMPRESSED_DATA,
    CONTEXT_0,
    DATA,
    MAX_CMS_BYTES,
    encode_algorithm,
    encode_integer,
    encode_octets,
    encode_oid,
    read_algorithm,
    read_content,
    reading,
    write_content,
)
from as2certs.as2.errors import AlgorithmNotSupported, MalformedMessage
from as2certs.pki.asn1 import SEQUENCE, Asn1Error, encode

_ZLIB = "1.2.840.113549.1.9.16.3.8"


def compress(content: bytes) -> bytes:
    """Return content as CompressedData in DER."""
    inner = encode(SEQUENCE, encode_oid(DATA), encode(CONTEXT_0, encode_octets(zlib.compress(content))))
    algorithm = encode_algorithm(_ZLIB, b"")  # without parameters, as openssl and Bouncy Castle write it
    return write_content(COMPRESSED_DATA, encode(SEQUENCE, encode_integer(0), algorithm, inner))


def decompress(data: bytes, limit: int = MAX_CMS_BYTES) -> bytes:
    """Return the content of CompressedData in BER or DER.

    Raises MalformedMessage, also for content of more than `limit` bytes, and AlgorithmNotSupported.
    """
    with reading("the compressed content"):
        _, compressed = read_content(data, COMPRESSED_DATA)
        _, algorithm, inner = compressed.children()
        kind, _ = read_algorithm(algorithm)
        if kind != _ZLIB:
            raise AlgorithmNotSupported(f"The content is compressed by {kind}, and only zlib is read.")
        _, explicit = inner.children()
        (octets,) = explicit.children()
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(octets.octets(), limit + 1)
        except zlib.error:
            raise Asn1Error("no zlib stream") from None
    if len(content) > limit:
        raise MalformedMessage(
            f"The compressed content has more than {limit // 1024} KiB, and that of a test message is small."
        )
    if not inflater.eof:
        raise MalformedMessage("The compressed content is cut off.")
    return content
