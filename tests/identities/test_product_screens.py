"""Where a certificate is entered in each AS2 product."""

from __future__ import annotations

import pytest

from identities.capabilities import SOFTWARE
from identities.product_screens import SCREENS, describe_screen


def test_each_screen_is_of_a_known_product_and_has_a_source() -> None:
    assert set(SCREENS) <= set(SOFTWARE)
    for screen in SCREENS.values():
        assert screen.own
        assert screen.check.endswith(".")
        assert "https://" in screen.source or screen.source.startswith("tried with")
        assert all(not text or text.endswith(".") for text in (screen.own, screen.other))


def test_the_screen_of_each_side_is_named_with_what_to_look_at() -> None:
    own, other = describe_screen("biztalk", "own"), describe_screen("biztalk", "other")
    assert own.startswith("In BizTalk Server, install the .pfx")
    assert "Party Properties" in other
    assert own.endswith("they have to show the new thumbprint.")


@pytest.mark.parametrize("software", ["", "other", "mendelson", "telepathy"])
def test_nothing_is_said_of_a_product_whose_screens_are_not_known(software: str) -> None:
    assert describe_screen(software, "own") == ""
    assert describe_screen(software, "other") == ""


def test_nothing_is_said_of_a_side_that_is_not_known() -> None:
    assert describe_screen("cdata_arc", "own")
    assert describe_screen("cdata_arc", "other") == ""
