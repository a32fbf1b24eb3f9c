"""Read the certificate aliases in a ``partnerships.xml`` of OpenAS2, and change them in place.

A ``<partner>`` names its certificates in the keystore: ``x509_alias`` is the one that signs and encrypts, and the only
one that verifies MDNs; ``x509_alias_fallback`` also decrypts and verifies messages. On the ``<sender>`` or
``<receiver>`` of a partnership, they replace those of the partner for that partnership, in messages and MDNs.

Only the values of these attributes change: comments, order, encoding and line ends belong to the people who wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

from identities.connectors.base import ROLES, ConnectorChange, ConnectorError, HeldCertificates

MAIN = "x509_alias"
FALLBACK = "x509_alias_fallback"
MAX_BYTES = 16 * 1024 * 1024

_ATTRIBUTE = re.compile(r"""(\s+)([^\s=/>"']+)(\s*=\s*)("[^"]*"|'[^']*')""")


@dataclass(frozen=True)
class Aliases:
    """The aliases of a station: the main one, and the one that it reads with too. Aliases are in lower case."""

    main: str = ""
    fallback: str = ""


def held_after(held: HeldCertificates, change: ConnectorChange) -> HeldCertificates:
    """Return the certificates of a main and a fallback alias after a change: what writes, and what reads beside it.

    Raises ConnectorError if OpenAS2 has no room for them.
    """
    reads, writes = (change.moves.get(role) for role in ROLES[change.side])
    new, old = change.new.sha256, change.old.sha256 if change.old else None
    main = held.current if writes in (None, "drop") else new
    reading = {held.current, *held.beside} - {None}
    if reads in ("add", "replace"):
        reading.add(new)
    keeps_old = reads in ("add", "switch") or (reads is None and (not change.reading or old in change.reading))
    if not keeps_old:
        reading.discard(old)
    if change.side == "partner" and reads == "replace" and main != new:
        raise ConnectorError(
            "OpenAS2 verifies MDNs with the certificate that it encrypts to, and only the one to verify with changes: "
            "change both together."
        )
    if len(reading - {main}) > 1:
        raise ConnectorError(
            f"OpenAS2 has one main and one fallback alias, and {change.as2_id} would need {len(reading | {main})} "
            "certificates at once: retire one first."
        )
    return HeldCertificates(main, tuple(one for one in reading - {main} if one is not None))


def is_unexpected(held: HeldCertificates, change: ConnectorChange) -> bool:
    """Return whether a change does not expect these certificates, before it or after it."""
    reads, writes = (change.moves.get(role) for role in ROLES[change.side])
    new, found = change.new.sha256, {held.current, *held.beside} - {None}
    known = {new, *([change.old.sha256] if change.old else [])}
    if writes is not None and held.current not in ({new} if writes == "drop" else known):
        return bool(found)
    if reads is not None and not known & found:
        return bool(found)
    return bool(found - known - change.reading) and (reads == "drop" or bool(change.reading))


@dataclass
class Element:
    """A start tag: its name, its attributes, and where it stands in the file, in bytes."""

    name: str
    attributes: dict[str, str]
    start: int
    parent: Element | None = field(default=None, repr=False)

    @property
    def aliases(self) -> Aliases:
        return Aliases(self.attributes.get(MAIN, "").lower(), self.attributes.get(FALLBACK, "").lower())


@dataclass(frozen=True)
class End:
    """One end of a partnership: the element of a station, and the AS2 ID of the station at the other end."""

    element: Element
    partnership: str
    other: str


class Partnerships:
    """A file of partnerships. Raises ConnectorError for one that can't be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.encoding = "utf-8"
        self.elements: list[Element] = []
        self._parse()
        self._edits: list[tuple[Element, str, str | None]] = []
        self._partners = {e.attributes.get("name", ""): e for e in self.elements if e.name == "partner"}

    def _parse(self) -> None:
        if len(self.data) > MAX_BYTES:
            raise ConnectorError(f"The partnerships have more than {MAX_BYTES // 1024 // 1024} MiB: that is not read.")
        if self.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ConnectorError("The partnerships are in UTF-16: save them in UTF-8, which OpenAS2 reads too.")
        parser = expat.ParserCreate()
        open_elements: list[Element] = []

        def declare(version: str, encoding: str | None, standalone: int) -> None:
            self.encoding = encoding or "utf-8"

        def start(name: str, attributes: dict[str, str]) -> None:
            parent = open_elements[-1] if open_elements else None
            element = Element(name, attributes, parser.CurrentByteIndex, parent)
            open_elements.append(element)
            if name in ("partner", "partnership", "sender", "receiver"):
                self.elements.append(element)

        def end(name: str) -> None:
            open_elements.pop()

        def refuse_entity(*_: object) -> None:
            raise ConnectorError("The partnerships define entities of their own: write out what they stand for.")

        parser.XmlDeclHandler = declare
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.EntityDeclHandler = refuse_entity
        try:
            parser.Parse(self.data, True)
        except expat.ExpatError as error:
            raise ConnectorError(
                f"The partnerships are no well-formed XML (line {error.lineno}: {expat.errors.messages[error.code]}): "
                "OpenAS2 could not read them either. Set the file right first."
            ) from None

    def partner(self, as2_id: str) -> Element:
        """Return the ``<partner>`` of an AS2 ID. Raises ConnectorError if there is none, or more than one."""
        found = [e for e in self.elements if e.name == "partner" and e.attributes.get("as2_id") == as2_id]
        if not found:
            raise ConnectorError(
                f"No <partner> of the partnerships has the AS2 ID {as2_id}: add it there, or correct the AS2 ID here."
            )
        if len(found) > 1:
            raise ConnectorError(f"{len(found)} <partner> elements have the AS2 ID {as2_id}: leave one of them.")
        return found[0]

    def ends(self, as2_id: str) -> Iterator[End]:
        """Yield the ends of partnerships that an AS2 ID has, in the order of the file."""
        inside_of: dict[int, dict[str, Element]] = {}
        for element in self.elements:
            if element.parent is not None and element.name in ("sender", "receiver"):
                inside_of.setdefault(element.parent.start, {})[element.name] = element
        for partnership in (e for e in self.elements if e.name == "partnership"):
            inside = inside_of.get(partnership.start, {})
            for mine, theirs in (("sender", "receiver"), ("receiver", "sender")):
                if mine in inside and theirs in inside and self.as2_id(inside[mine]) == as2_id:
                    name = partnership.attributes.get("name", "")
                    yield End(inside[mine], name, self.as2_id(inside[theirs]))

    def as2_id(self, end: Element) -> str:
        """Return the AS2 ID of a partner, sender or receiver: its own, or that of the partner that it names."""
        partner = self._partners.get(end.attributes.get("name", ""))
        inherited = partner.attributes.get("as2_id", "") if partner else ""
        return end.attributes.get("as2_id", inherited)

    def aliases_of(self, end: End) -> Aliases:
        """Return the aliases that count at one end: those of the element, else those of its partner."""
        partner = self._partners.get(end.element.attributes.get("name", ""))
        inherited, own = partner.aliases if partner else Aliases(), end.element.aliases
        return Aliases(own.main or inherited.main, own.fallback or inherited.fallback)

    def users_of(self, alias: str) -> list[Element]:
        """Return the elements that name an alias."""
        return [e for e in self.elements if alias.lower() in (e.aliases.main, e.aliases.fallback)]

    def stations_of(self, alias: str) -> set[str]:
        """Return the AS2 IDs whose elements name an alias."""
        return {self.as2_id(element) for element in self.users_of(alias)} - {""}

    def set(self, element: Element, aliases: Aliases) -> None:
        """Give an element these aliases; an empty one is removed."""
        for name, value in ((MAIN, aliases.main), (FALLBACK, aliases.fallback)):
            if element.attributes.get(name, "").lower() != value:
                self._edits.append((element, name, value or None))

    def edited(self) -> bytes:
        """Return the file with all changes; without any, the very bytes that were read."""
        data = self.data
        by_element: dict[int, list[tuple[str, str | None]]] = {}
        for element, name, value in self._edits:
            by_element.setdefault(element.start, []).append((name, value))
        for start in sorted(by_element, reverse=True):
            stop = _end_of_tag(data, start)
            tag = data[start:stop].decode(self.encoding)
            for name, value in by_element[start]:
                tag = _set_attribute(tag, name, value)
            data = data[:start] + tag.encode(self.encoding) + data[stop:]
        return data


def _end_of_tag(data: bytes, start: int) -> int:
    """Return the position after the ">" of a start tag; one between quotation marks does not end it."""
    quote = b""
    for position in range(start, len(data)):
        character = data[position : position + 1]
        if quote:
            quote = b"" if character == quote else quote
        elif character in (b'"', b"'"):
            quote = character
        elif character == b">":
            return position + 1
    raise ConnectorError("The partnerships end within an element.")  # expat would have refused them


def _set_attribute(tag: str, name: str, value: str | None) -> str:
    """Return a start tag with an attribute set, or without it."""
    found = next((match for match in _ATTRIBUTE.finditer(tag) if match[2] == name), None)
    if found is None:
        if value is None:
            return tag
        last = max((match.end() for match in _ATTRIBUTE.finditer(tag)), default=len(tag.rstrip("/> \t\r\n")))
        return f'{tag[:last]} {name}="{_escape(value, chr(34))}"{tag[last:]}'
    if value is None:
        return tag[: found.start()] + tag[found.end() :]
    quote = found[4][0]
    return f"{tag[: found.start(4)]}{quote}{_escape(value, quote)}{quote}{tag[found.end(4) :]}"


def _escape(value: str, quote: str) -> str:
    return escape(value, {quote: "&quot;" if quote == '"' else "&apos;"})
