"""Signing choices for single partners: made, ended, and their history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from identities.models import Identity
from identities.stations import HistoryNotDeletable
from partners import signing_choices
from partners.models import Partnership, SigningChoice
from tests.inventory import NOW, add_certificate, make_identity, make_partner
from tests.role_assignments import replace

pytestmark = pytest.mark.django_db

#: "What did we sign with for Northwind on 3 March at 10:00?"
THIRD_OF_MARCH = datetime(2027, 3, 3, 10, 0, tzinfo=UTC)
CHANGE_AT = THIRD_OF_MARCH + timedelta(days=4)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def identity() -> Identity:
    return make_identity()


@pytest.fixture
def old(identity: Identity) -> Any:
    return add_certificate(identity)


@pytest.fixture
def new(identity: Identity, old: Any) -> Any:
    return add_certificate(identity, days=700)


@pytest.fixture
def northwind(identity: Identity) -> Partnership:
    return Partnership.objects.create(identity=identity, partner=make_partner())


@pytest.fixture
def fabrikam(identity: Identity) -> Partnership:
    return Partnership.objects.create(identity=identity, partner=make_partner("FABRIKAM"))


def signing_periods(partnership: Partnership) -> list[tuple[Any, datetime, datetime | None, bool]]:
    return [
        (span.certificate, span.start, span.end, span.is_choice)
        for span in signing_choices.signing_history(partnership)
    ]


def change_default(identity: Identity, old: Any, new: Any, at: datetime) -> None:
    at = replace(old, new, "sign", at=at)
    signing_choices.end_choices(identity, at=at)


def test_a_choice_signs_for_its_partner_alone(
    northwind: Partnership, fabrikam: Partnership, old: Any, new: Any
) -> None:
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    assert signing_choices.signing_certificate_at(northwind, THIRD_OF_MARCH - MOMENT) == old
    assert signing_choices.signing_certificate_at(northwind, THIRD_OF_MARCH) == new
    assert signing_choices.signing_certificate_at(fabrikam, THIRD_OF_MARCH) == old
    assert signing_choices.signing_certificate_at(northwind, NOW - MOMENT) is None


def test_choices_end_without_gap_or_overlap_when_the_default_changes(
    identity: Identity, northwind: Partnership, fabrikam: Partnership, old: Any, new: Any
) -> None:
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    change_default(identity, old, new, CHANGE_AT)
    assert not SigningChoice.objects.open().exists()
    assert signing_periods(northwind) == [
        (old, NOW, THIRD_OF_MARCH, False),
        (new, THIRD_OF_MARCH, CHANGE_AT, True),
        (new, CHANGE_AT, None, False),
    ]
    assert signing_periods(fabrikam) == [(old, NOW, CHANGE_AT, False), (new, CHANGE_AT, None, False)]
    assert signing_choices.signing_certificate_at(northwind, CHANGE_AT - MOMENT) == new
    assert signing_choices.signing_certificate_at(northwind, CHANGE_AT) == new


def test_the_default_signs_again_for_a_partner_that_is_rolled_back(northwind: Partnership, old: Any, new: Any) -> None:
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    signing_choices.choose(northwind, old, at=CHANGE_AT)
    assert signing_choices.open_choice(northwind) is None
    assert signing_periods(northwind)[1:] == [
        (new, THIRD_OF_MARCH, CHANGE_AT, True),
        (old, CHANGE_AT, None, False),
    ]


def test_a_partner_can_be_rolled_back_alone_after_the_change_of_the_default(
    identity: Identity, northwind: Partnership, fabrikam: Partnership, old: Any, new: Any
) -> None:
    change_default(identity, old, new, THIRD_OF_MARCH)
    signing_choices.choose(northwind, old, at=CHANGE_AT)
    assert signing_choices.signing_certificate_at(northwind, CHANGE_AT) == old
    assert signing_choices.signing_certificate_at(fabrikam, CHANGE_AT) == new
    signing_choices.choose(northwind, new, at=CHANGE_AT + timedelta(days=1))
    assert signing_choices.open_choice(northwind) is None
    assert signing_periods(northwind) == [
        (old, NOW, THIRD_OF_MARCH, False),
        (new, THIRD_OF_MARCH, CHANGE_AT, False),
        (old, CHANGE_AT, CHANGE_AT + timedelta(days=1), True),
        (new, CHANGE_AT + timedelta(days=1), None, False),
    ]


def test_choosing_the_current_certificate_changes_nothing(northwind: Partnership, old: Any, new: Any) -> None:
    signing_choices.choose(northwind, old, at=THIRD_OF_MARCH)
    assert not SigningChoice.objects.exists()
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    signing_choices.choose(northwind, new, at=CHANGE_AT)
    assert [row.starts_at for row in SigningChoice.objects.all()] == [THIRD_OF_MARCH]


def test_a_retired_certificate_ends_only_its_own_choices(
    identity: Identity, northwind: Partnership, fabrikam: Partnership, old: Any, new: Any
) -> None:
    third = add_certificate(identity, days=900)
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    signing_choices.choose(fabrikam, third, at=THIRD_OF_MARCH)
    assert signing_choices.end_choices(identity, at=CHANGE_AT, certificate=new) == 1
    assert signing_choices.signing_certificate_at(northwind, CHANGE_AT) == old
    assert signing_choices.signing_certificate_at(fabrikam, CHANGE_AT) == third


def test_choices_of_other_identities_stay(northwind: Partnership, old: Any, new: Any) -> None:
    other = make_identity("ACME-2")
    add_certificate(other)
    theirs = Partnership.objects.create(identity=other, partner=northwind.partner)
    signing_choices.choose(theirs, add_certificate(other, days=700), at=THIRD_OF_MARCH)
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    signing_choices.end_choices(northwind.identity, at=CHANGE_AT)
    assert [row.partnership for row in SigningChoice.objects.open()] == [theirs]


def test_a_clock_that_was_ahead_causes_neither_gap_nor_overlap(
    identity: Identity, northwind: Partnership, old: Any, new: Any
) -> None:
    signing_choices.choose(northwind, new, at=CHANGE_AT)
    signing_choices.choose(northwind, old, at=THIRD_OF_MARCH)
    assert signing_periods(northwind) == [(old, NOW, None, False)]
    signing_choices.choose(northwind, new, at=CHANGE_AT)
    change_default(identity, old, new, THIRD_OF_MARCH)
    for moment in (THIRD_OF_MARCH, CHANGE_AT - MOMENT, CHANGE_AT):
        assert signing_choices.signing_certificate_at(northwind, moment) == new


def test_the_database_refuses_two_open_choices_for_a_partnership(northwind: Partnership, old: Any, new: Any) -> None:
    signing_choices.choose(northwind, new, at=THIRD_OF_MARCH)
    with pytest.raises(IntegrityError), transaction.atomic():
        SigningChoice.objects.create(partnership=northwind, certificate=old, starts_at=CHANGE_AT)
    with pytest.raises(IntegrityError), transaction.atomic():
        SigningChoice.objects.update(ends_at=THIRD_OF_MARCH - MOMENT)
    with pytest.raises(HistoryNotDeletable):
        SigningChoice.objects.get().delete()


def test_the_identitys_page_lists_the_partners_with_another_signing_certificate(
    viewer: Client, identity: Identity, northwind: Partnership, fabrikam: Partnership, old: Any, new: Any
) -> None:
    assert "Signs for these partners" not in viewer.get(identity.get_absolute_url()).content.decode()
    signing_choices.choose(northwind, new, at=NOW)
    page = viewer.get(identity.get_absolute_url())
    assert list(page.context["signing_choices"]) == [northwind]
    text = page.content.decode()
    assert text.index("Signs for these partners with another one") > text.index("table-stack")
    assert new.short_name in text


def test_the_partners_page_shows_the_signing_certificates_by_period(
    viewer: Client, identity: Identity, northwind: Partnership, old: Any, new: Any
) -> None:
    address = northwind.partner.get_absolute_url()
    assert "What we signed with for them" not in viewer.get(address).content.decode()
    signing_choices.choose(northwind, new, at=NOW + timedelta(hours=2))
    text = viewer.get(address).content.decode()
    table = text[text.index("What we signed with for them") :]
    assert table.index(new.short_name) < table.index(old.short_name)
    assert "chosen for them alone" in table
    assert "14:00:00" in table


def test_a_certificates_page_lists_the_partners_it_is_chosen_for(
    viewer: Client, northwind: Partnership, old: Any, new: Any
) -> None:
    signing_choices.choose(northwind, new, at=NOW)
    text = viewer.get(new.get_absolute_url()).content.decode()
    assert "To sign for one partner alone" in text
    assert "used to sign for some partners" in text or "used to decrypt" in text
    signing_choices.choose(northwind, old, at=CHANGE_AT)
    assert "To sign for one partner alone" in viewer.get(new.get_absolute_url()).content.decode()
