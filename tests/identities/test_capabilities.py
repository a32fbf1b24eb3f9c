"""The five questions about an AS2 system, and what is known of products."""

from __future__ import annotations

import pytest

from identities.capabilities import (
    OTHER_SOFTWARE,
    QUESTIONS,
    SOFTWARE,
    SOFTWARE_CHOICES,
    Support,
    answers_of,
)
from identities.models import AS2System
from partners.models import Partner


def test_each_product_answers_every_question_and_says_where_that_comes_from() -> None:
    for key, product in SOFTWARE.items():
        assert product.key == key
        assert list(product.answers) == list(QUESTIONS)
        is_known = any(answer != Support.UNKNOWN for answer in product.answers.values())
        assert is_known == (product.source != "nothing certain is known")
    assert [key for key, _ in SOFTWARE_CHOICES] == [*SOFTWARE, OTHER_SOFTWARE]


def test_nothing_is_known_of_another_product() -> None:
    assert answers_of(OTHER_SOFTWARE) == answers_of("") == {}


def test_openas2_reads_messages_with_two_and_mdns_with_one() -> None:
    system = AS2System(software="openas2", **answers_of("openas2"))
    assert system.reads_with_two("decrypt") is Support.YES
    assert system.verifies_messages_with_two == Support.YES
    assert system.reads_with_two("verify") is Support.NO
    assert system.signs_per_partner
    assert (system.keeps_both("own"), system.keeps_both("partner")) == (Support.YES, Support.NO)


def test_a_partner_verifies_with_ours_and_decrypts_with_its_own() -> None:
    partner = Partner(software="openas2", **answers_of("openas2"))
    assert (partner.keeps_both("own"), partner.keeps_both("partner")) == (Support.NO, Support.YES)


@pytest.mark.parametrize(
    ("messages", "mdns", "together"),
    [("yes", "yes", "yes"), ("yes", "unknown", "unknown"), ("unknown", "no", "no"), ("no", "yes", "no")],
)
def test_messages_and_mdns_count_together(messages: str, mdns: str, together: str) -> None:
    verifies = AS2System(verifies_messages_with_two=messages, verifies_mdns_with_two=mdns)
    assert verifies.reads_with_two("verify") == together
    signs = AS2System(signs_messages_per_partner=messages, signs_mdns_per_partner=mdns)
    assert signs.signs_per_partner is (together == "yes")
