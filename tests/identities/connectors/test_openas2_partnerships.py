"""Aliases in a partnerships.xml of OpenAS2 are read and changed, and nothing else of the file is."""

from __future__ import annotations

import difflib

import pytest

from identities.connectors.base import ConnectorError
from identities.connectors.openas2_partnerships import Aliases, Partnerships

FILE = """<?xml version="1.0" encoding="UTF-8"?>
<!-- Company "ACME" > all partners; edited by hand -->
<partnerships>
    <partner name="ACME"   as2_id='ACME-PROD' x509_alias='Acme-2024'
             email="edi@acme.example"/>
    <partner name="Northwind" as2_id="NORTH &amp; WIND" x509_alias="northwind" note="a > b"></partner>
    <partner name="Contoso" as2_id="CONTOSO" x509_alias="contoso" x509_alias_fallback="contoso-2026"/>
    <partnership name="ACME-to-Northwind">
        <sender name="ACME" x509_alias="acme-2023" x509_alias_fallback="acme-2024"/>
        <receiver name="Northwind"/>
        <attribute name="as2_mdn_options" value="signed-receipt-protocol=optional, pkcs7-signature"/>
    </partnership>
    <partnership name="Contoso-to-ACME">
        <sender name="Contoso"/>
        <receiver name="ACME"/>
    </partnership>
</partnerships>
"""
CONTOSO = '<partner name="Contoso" as2_id="CONTOSO" x509_alias="contoso" x509_alias_fallback="contoso-2026"/>'


def changed_lines(before: bytes, after: bytes) -> list[str]:
    old, new = before.decode("latin-1").splitlines(True), after.decode("latin-1").splitlines(True)
    return [line for line in difflib.ndiff(old, new) if line[0] in "+-"]


def test_it_reads_which_aliases_count_at_each_end() -> None:
    file = Partnerships(FILE.encode())
    assert file.partner("ACME-PROD").aliases == Aliases("acme-2024")
    ends = list(file.ends("ACME-PROD"))
    assert [(end.partnership, end.element.name, end.other) for end in ends] == [
        ("ACME-to-Northwind", "sender", "NORTH & WIND"),
        ("Contoso-to-ACME", "receiver", "CONTOSO"),
    ]
    assert [file.aliases_of(end) for end in ends] == [Aliases("acme-2023", "acme-2024"), Aliases("acme-2024")]
    assert [element.name for element in file.users_of("ACME-2024")] == ["partner", "sender"]


def test_without_a_change_the_bytes_stay() -> None:
    data = FILE.replace("\n", "\r\n").encode()
    file = Partnerships(data)
    file.set(file.partner("CONTOSO"), Aliases("contoso", "contoso-2026"))
    assert file.edited() == data


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1"])
def test_only_the_attributes_change(newline: str, encoding: str) -> None:
    text = FILE.replace("UTF-8", encoding).replace("by hand", "by Jörg").replace("\n", newline)
    data = text.encode(encoding)
    file = Partnerships(data)
    file.set(file.partner("ACME-PROD"), Aliases("acme-2026", "acme-2024"))
    file.set(file.partner("CONTOSO"), Aliases("contoso-2026"))
    file.set(next(file.ends("ACME-PROD")).element, Aliases())
    after = file.edited()
    assert changed_lines(data, after) == [
        f"-     <partner name=\"ACME\"   as2_id='ACME-PROD' x509_alias='Acme-2024'{newline}",
        f"+     <partner name=\"ACME\"   as2_id='ACME-PROD' x509_alias='acme-2026'{newline}",
        f'-              email="edi@acme.example"/>{newline}',
        f'+              email="edi@acme.example" x509_alias_fallback="acme-2024"/>{newline}',
        f"-     {CONTOSO}{newline}",
        f'+     <partner name="Contoso" as2_id="CONTOSO" x509_alias="contoso-2026"/>{newline}',
        f'-         <sender name="ACME" x509_alias="acme-2023" x509_alias_fallback="acme-2024"/>{newline}',
        f'+         <sender name="ACME"/>{newline}',
    ]
    again = Partnerships(after)
    assert again.partner("ACME-PROD").aliases == Aliases("acme-2026", "acme-2024")
    assert again.partner("NORTH & WIND").aliases == Aliases("northwind")


def test_there_and_back_again_is_the_same_file() -> None:
    data = FILE.encode()
    file = Partnerships(data)
    file.set(file.partner("CONTOSO"), Aliases("contoso"))
    back = Partnerships(file.edited())
    back.set(back.partner("CONTOSO"), Aliases("contoso", "contoso-2026"))
    assert back.edited() == data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (FILE.replace("</partnerships>", "").encode(), "no well-formed XML (line"),
        (FILE.encode("utf-16"), "save them in UTF-8"),
        (b'<!DOCTYPE p [<!ENTITY a "b">]><partnerships/>', "define entities of their own"),
        (b"", "no well-formed XML"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_reason(data: bytes, sentence: str) -> None:
    with pytest.raises(ConnectorError) as refused:
        Partnerships(data)
    assert sentence in str(refused.value)


def test_an_unknown_or_ambiguous_as2_id_is_refused() -> None:
    file = Partnerships(FILE.encode())
    with pytest.raises(ConnectorError, match="No <partner> of the partnerships has the AS2 ID acme-prod"):
        file.partner("acme-prod")
    twice = Partnerships(FILE.replace('as2_id="CONTOSO"', 'as2_id="ACME-PROD"').encode())
    with pytest.raises(ConnectorError, match="2 <partner> elements have the AS2 ID ACME-PROD"):
        twice.partner("ACME-PROD")
