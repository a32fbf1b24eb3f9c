"""Partnerships between identities and partners."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from identities.models import Identity
from partners.models import Partner, Partnership
from partners.partnerships import connect
from tests.inventory import (
    BY,
    NOW,
    add_certificate,
    make_identity,
    make_partner,
    start_rotation,
    trail,
    verbs,
)

pytestmark = pytest.mark.django_db


def address(station: Identity | Partner, **query: str) -> str:
    side = "identity" if isinstance(station, Identity) else "partner"
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"{reverse('partnership-create')}?{side}={station.uid}{more}"


def offered(client: Client, station: Identity | Partner, **query: str) -> list[str]:
    return [other.name for other in client.get(address(station, **query)).context["offered"]]


def choose(client: Client, station: Identity | Partner, *others: Any, notes: str = "") -> Any:
    return client.post(address(station), {"others": [str(o.uid) for o in others], "notes": notes})


@pytest.mark.on_postgres
def test_an_identity_is_connected_with_several_partners_at_once(operator: Client) -> None:
    identity, one, two = make_identity(), make_partner("ONE"), make_partner("TWO")
    answer = choose(operator, identity, one, two, notes="MDN within an hour")
    assert answer["Location"] == identity.get_absolute_url()
    assert {p.partner for p in identity.partnerships.all()} == {one, two}
    assert verbs() == ["partnership.created"] * 2
    seen = [entry.verb for entry in type(trail()[0]).objects.about(two)]
    assert seen == ["partnership.created"]


def test_a_partner_is_connected_from_its_own_side_too(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    answer = choose(operator, partner, identity)
    assert answer["Location"] == partner.get_absolute_url()
    assert Partnership.objects.get().identity == identity


def test_only_unconnected_stations_of_the_same_environment_are_offered(operator: Client) -> None:
    identity = make_identity()
    choose(operator, identity, make_partner("TAKEN"))
    make_partner("FREE")
    make_partner("TEST", environment="test")
    make_partner("GONE", archived_at=NOW)
    assert offered(operator, identity) == ["Free"]
    assert offered(operator, identity, q="nobody") == []


@pytest.mark.on_postgres
def test_a_long_list_is_cut_and_searched(operator: Client) -> None:
    identity = make_identity()
    Partner.objects.bulk_create(Partner(name=f"Partner {n:03}", as2_id=f"P{n:03}") for n in range(80))
    answer = operator.get(address(identity))
    assert len(answer.context["offered"]) == 50
    assert answer.context["more"] is True
    assert offered(operator, identity, q="p079") == ["Partner 079"]
    last = Partner.objects.get(as2_id="P079")
    assert choose(operator, identity, last).status_code == 302


def test_test_and_production_are_not_connected(operator: Client) -> None:
    identity, partner = make_identity(), make_partner(environment="test")
    form = choose(operator, identity, partner).context["form"]
    assert "Northwind is in test and Acme-Prod in production" in form.errors["others"][0]
    assert not Partnership.objects.exists()


@pytest.mark.parametrize("others", [[], ["no uid"], ["00000000-0000-4000-8000-000000000000"]])
def test_an_invalid_choice_is_refused(operator: Client, others: list[str]) -> None:
    make_partner()
    form = operator.post(address(make_identity()), {"others": others}).context["form"]
    assert list(form.errors) == ["others"]


def test_connecting_twice_is_refused(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    choose(operator, identity, partner)
    form = choose(operator, identity, partner).context["form"]
    assert "Northwind is connected with Acme-Prod already" in form.errors["others"][0]
    assert verbs() == ["partnership.created"]


def test_a_connection_made_meanwhile_is_not_changed(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    first = connect(identity, partner, notes="first", by=BY, now=NOW)
    assert connect(identity, partner, notes="second", by=BY, now=NOW) == first
    assert verbs() == ["partnership.created"]


def test_what_was_checked_stays_checked_after_an_error(operator: Client) -> None:
    identity, partner, other = make_identity(), make_partner("ONE"), make_partner("T", environment="test")
    page = choose(operator, identity, partner, other).content.decode()
    box = page[page.index(f'value="{partner.uid}"') :]
    assert "checked" in box[: box.index(">")]


@pytest.mark.parametrize("query", ["identity=nonsense", "partner=", "identity=00000000-0000-4000-8000-000000000000"])
def test_an_unknown_station_is_not_found(operator: Client, query: str) -> None:
    assert operator.get(f"{reverse('partnership-create')}?{query}").status_code == 404


def test_a_viewer_connects_and_ends_nothing(viewer: Client) -> None:
    identity, partner = make_identity(), make_partner()
    assert choose(viewer, identity, partner).status_code == 403
    partnership = connect(identity, partner, notes="", by=BY, now=NOW)
    answer = viewer.post(reverse("partnership-archive", args=[partnership.uid]), {"reason": "x"})
    assert answer.status_code == 403
    assert Partnership.objects.active().exists()


# --- End and restore ------------------------------------------------------------------------------------------


def end(client: Client, partnership: Partnership, query: str = "") -> Any:
    target = reverse("partnership-archive", args=[partnership.uid]) + query
    return client.post(target, {"reason": "no longer trading"}, follow=True)


def message_text(answer: Any) -> str:
    return str(next(iter(answer.context["messages"])))


def test_a_connection_is_ended_and_made_again_as_the_same_one(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    partnership = connect(identity, partner, notes="keep", by=BY, now=NOW)
    answer = end(operator, partnership, "?identity")
    assert answer.redirect_chain[-1][0] == identity.get_absolute_url()
    assert not Partnership.objects.active().exists()
    choose(operator, identity, partner)
    assert Partnership.objects.active().get() == partnership
    assert Partnership.objects.get().notes == "keep"
    assert verbs() == ["partnership.created", "partnership.archived", "partnership.restored"]


def test_a_connection_with_a_part_in_a_running_rotation_stays(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    partnership = connect(identity, partner, notes="", by=BY, now=NOW)
    part = start_rotation(identity, add_certificate(identity)).participants.create(partner=partner)
    assert "takes part in a running rotation of Acme-Prod" in message_text(end(operator, partnership))
    part.removed_reason = "left out"
    part.save()
    assert "is archived" in message_text(end(operator, partnership))


def test_a_connection_stays_while_the_partners_certificate_is_replaced(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    partnership = connect(identity, partner, notes="", by=BY, now=NOW)
    start_rotation(partner, add_certificate(partner))
    assert "A rotation of Northwind is running" in message_text(end(operator, partnership))
    assert Partnership.objects.active().exists()


def test_a_connection_with_somebody_archived_is_not_restored(operator: Client) -> None:
    identity, partner = make_identity(), make_partner(archived_at=NOW)
    partnership = Partnership.objects.create(identity=identity, partner=partner, archived_at=NOW)
    answer = operator.post(reverse("partnership-restore", args=[partnership.uid]), {"reason": "back"}, follow=True)
    assert "Northwind is archived: restore it first" in message_text(answer)
    assert not Partnership.objects.active().exists()


def test_a_connection_between_environments_is_not_restored(operator: Client) -> None:
    identity, partner = make_identity(), make_partner(environment="test")
    partnership = Partnership.objects.create(identity=identity, partner=partner, archived_at=NOW)
    answer = operator.post(reverse("partnership-restore", args=[partnership.uid]), {"reason": "back"}, follow=True)
    assert "can’t be connected" in answer.content.decode()
