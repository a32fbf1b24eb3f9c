"""Read and write ASN.1 elements in BER and DER (X.690): bounded, without recursion, before any parser sees a file.

For the parsers of `cryptography`, which take DER only, `to_der` turns the BER of streaming programs (indefinite
lengths, strings in pieces) into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 40
"""Maximum nesting of elements; a PKCS#12 file has about 15 levels."""
MAX_ELEMENTS = 50_000
"""Maximum number of elements of a structure; a PKCS#7 file with 100 certificates has about 10,000."""

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, UTF8_STRING = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C
PRINTABLE_STRING, TELETEX_STRING, IA5_STRING, SEQUENCE, SET = 0x13, 0x14, 0x16, 0x30, 0x31
_CONSTRUCTED = 0x20
_END = b"\x00\x00"


class Asn1Error(ValueError):
    """The bytes are no element, or exceed a limit."""


@dataclass(frozen=True)
class Element:
    """One element: its identifier octet (class, form and tag below 31), its content and all of its bytes."""

    identifier: int
    content: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def is_constructed(self) -> bool:
        return bool(self.identifier & _CONSTRUCTED)

    def children(self) -> list[Element]:
        """Return the elements inside. Raises Asn1Error for a primitive one, and for other content than elements."""
        if not self.is_constructed:
            raise Asn1Error("a primitive element has no elements inside")
        return list(elements(self.content))

    def octets(self) -> bytes:
        """Return the value of a string, also of one in pieces (X.690, 8.7). Raises Asn1Error."""
        pieces, waiting = [], [(self, 0)]
        while waiting:
            element, depth = waiting.pop()
            if not element.is_constructed:
                pieces.append(element.content)
                continue
            if depth >= MAX_DEPTH:
                raise Asn1Error("too many levels")
            waiting += [(child, depth + 1) for child in reversed(element.children())]
        return b"".join(pieces)

    def integer(self) -> int:
        """Return the value of an INTEGER. Raises Asn1Error."""
        if self.identifier != INTEGER or not self.content:
            raise Asn1Error("no integer")
        return int.from_bytes(self.content, "big", signed=True)

    def dotted(self) -> str:
        """Return the value of an OBJECT IDENTIFIER, such as "1.2.840.113549.1.7.2". Raises Asn1Error."""
        if self.identifier != OID or not 1 <= len(self.content) <= 64 or self.content[-1] & 0x80:
            raise Asn1Error("no object identifier")
        arcs, value = [], 0
        for octet in self.content:
            value = value << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def read_element(data: bytes, start: int = 0) -> Element:
    """Return the element at an offset. Raises Asn1Error if there is no complete one."""
    header, length = _header(data, start)
    if length is not None:
        end = header + length
        if end > len(data):
            raise Asn1Error("cut off")
        return Element(data[start], data[header:end], data[start:end])
    end = _find_end(data, header)
    return Element(data[start], data[header : end - 2], data[start:end])


def elements(data: bytes, limit: int = MAX_ELEMENTS) -> Iterator[Element]:
    """Yield the elements that follow each other in bytes. Raises Asn1Error for more than `limit`, and for others."""
    position, count = 0, 0
    while position < len(data):
        count += 1
        if count > limit:
            raise Asn1Error("too many elements")
        element = read_element(data, position)
        yield element
        position += len(element.raw)


def encode(identifier: int, *contents: bytes) -> bytes:
    """Return an element in DER, with a definite length."""
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes((identifier, len(content))) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((identifier, 0x80 | len(size))) + size + content


def to_der(data: bytes) -> bytes:
    """Return the first element of BER bytes with definite, shortest lengths, and with strings in one piece.

    Sets keep their order, and values stay as they are. Raises Asn1Error for too deep or too large structures.
    """
    budget = [MAX_ELEMENTS]
    return _to_der(read_element(data), budget, 0)


def _to_der(element: Element, budget: list[int], depth: int) -> bytes:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise Asn1Error("too many elements or levels")
    if not element.is_constructed:
        return encode(element.identifier, element.content)
    if element.identifier & 0xC0 == 0 and element.identifier & 0x1F not in (0x10, 0x11):
        if element.identifier & 0x1F == BIT_STRING:
            raise Asn1Error("a bit string in pieces")
        return encode(element.identifier & ~_CONSTRUCTED, element.octets())
    return encode(element.identifier, *(_to_der(child, budget, depth + 1) for child in element.children()))


def _header(data: bytes, start: int) -> tuple[int, int | None]:
    """Return the offset of the content, and its length; None for an indefinite one."""
    if start + 2 > len(data):
        raise Asn1Error("cut off")
    if data[start] & 0x1F == 0x1F:
        raise Asn1Error("a tag above 30, which no structure of certificates and keys has")
    first = data[start + 1]
    if first < 0x80:
        return start + 2, first
    if first == 0x80:
        if not data[start] & _CONSTRUCTED:
            raise Asn1Error("a primitive element of indefinite length")
        return start + 2, None
    size = first & 0x7F
    if size > 4 or start + 2 + size > len(data):
        raise Asn1Error("a length that no file has")
    return start + 2 + size, int.from_bytes(data[start + 2 : start + 2 + size], "big")


def _find_end(data: bytes, position: int) -> int:
    """Return the offset after the end-of-contents octets that close an element of indefinite length."""
    open_elements, count = 1, 0
    while open_elements:
        count += 1
        if count > MAX_ELEMENTS or open_elements > MAX_DEPTH:
            raise Asn1Error("too many elements or levels")
        if data[position : position + 2] == _END:
            open_elements -= 1
            position += 2
            continue
        header, length = _header(data, position)
        if length is None:
            open_elements += 1
            position = header
        else:
            position = header + length
    return position
