"""The pages of partners: list, detail, form, archive and restore."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from partners.models import Contact, Partner, Partnership
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.inventory import (
    NOW,
    add_certificate,
    count_queries,
    listed_names,
    make_identity,
    make_partner,
    start_rotation,
    trail,
    verbs,
)

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

LIST = "/partners/"


def form_data(**fields: Any) -> dict[str, Any]:
    return {
        "name": "Northwind",
        "as2_id": "NORTHWIND",
        "environment": "production",
        "time_zone": "America/Chicago",
        "software": "",
        **keeps_both(),
        **SIGNS_PER_PARTNER,
        **fields,
    }


def connect(identity: Any, partner: Partner) -> Partnership:
    return Partnership.objects.create(identity=identity, partner=partner)


def detail(client: Client, partner: Partner) -> Any:
    return client.get(partner.get_absolute_url())


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


# --- The list -------------------------------------------------------------------------------------------------


def test_the_empty_list_explains_partners_and_links_to_the_form(operator: Client) -> None:
    page = operator.get(LIST).content.decode()
    assert "a station that you trade with" in page
    assert reverse("partner-create") in page


@pytest.mark.on_postgres
def test_the_list_is_searched_and_filtered(operator: Client) -> None:
    add_certificate(make_partner("SOON", **keeps_both("no")), days=20)
    make_partner("TEST", environment="test")
    make_partner("GONE", archived_at=NOW)
    assert listed_names(operator, LIST) == ["Soon", "Test"]
    assert listed_names(operator, LIST, q="soo") == ["Soon"]
    assert listed_names(operator, LIST, environment="test") == ["Test"]
    assert listed_names(operator, LIST, keeps_both="no") == ["Soon"]
    assert listed_names(operator, LIST, keeps_both="unknown") == ["Test"]
    assert listed_names(operator, LIST, keeps_both="yes") == []
    assert listed_names(operator, LIST, expires="30") == ["Soon"]
    assert listed_names(operator, LIST, archived="only") == ["Gone"]


def test_the_list_shows_those_connected_with_an_identity(operator: Client) -> None:
    identity = make_identity()
    connect(identity, make_partner("MINE"))
    make_partner("OTHER")
    ended = connect(identity, make_partner("ENDED"))
    ended.archived_at = NOW
    ended.save()
    assert listed_names(operator, LIST, identity=str(identity.uid)) == ["Mine"]
    assert identity.name in operator.get(LIST, {"identity": str(identity.uid)}).content.decode()
    assert operator.get(LIST, {"identity": "no uid"}).status_code == 200


def test_a_longer_list_takes_no_more_queries(operator: Client) -> None:
    add_certificate(make_partner("ONE"))
    few = count_queries(lambda: operator.get(LIST))
    for number in range(12):
        add_certificate(make_partner(f"P-{number}"), days=30 + number)
    assert count_queries(lambda: operator.get(LIST)) == few


# --- The form -------------------------------------------------------------------------------------------------


def test_a_partner_is_created_and_recorded(operator: Client) -> None:
    operator.post(reverse("partner-create"), form_data())
    partner = Partner.objects.get()
    assert partner.time_zone == "America/Chicago"
    (entry,) = trail()
    assert entry.verb == "partner.created"
    assert entry.new["decrypts_with_two"] == "yes"


def test_the_form_defaults_to_the_users_time_zone_and_the_user_as_owner(operator: Client) -> None:
    User.objects.filter(username="operator").update(time_zone="Asia/Tokyo")
    form = operator.get(reverse("partner-create")).context["form"]
    assert form["time_zone"].value() == "Asia/Tokyo"
    assert form["owners"].value() == [User.objects.get(username="operator").pk]


@pytest.mark.parametrize("zone", ["", "CST", "Mars/Phobos"])
def test_an_invalid_time_zone_is_refused_at_its_field(operator: Client, zone: str) -> None:
    form = operator.post(reverse("partner-create"), form_data(time_zone=zone)).context["form"]
    assert list(form.errors) == ["time_zone"]


def test_a_time_zone_with_an_old_name_stays_valid(operator: Client) -> None:
    partner = make_partner(time_zone="US/Central")
    operator.post(reverse("partner-update", args=[partner.uid]), form_data(name="Renamed", time_zone="US/Central"))
    partner.refresh_from_db()
    assert (partner.name, partner.time_zone) == ("Renamed", "US/Central")


def test_the_same_as2_id_twice_in_an_environment_is_refused_at_its_field(operator: Client) -> None:
    make_partner("NORTHWIND", name="First")
    form = operator.post(reverse("partner-create"), form_data()).context["form"]
    assert "First has the AS2 ID NORTHWIND in production already" in form.errors["as2_id"][0]
    assert operator.post(reverse("partner-create"), form_data(environment="test")).status_code == 302


def test_a_partner_with_identities_stays_in_their_environment(operator: Client) -> None:
    partner = make_partner()
    connect(make_identity(), partner)
    address = reverse("partner-update", args=[partner.uid])
    form = operator.post(address, form_data(environment="test")).context["form"]
    assert "connected with Acme-Prod" in form.errors["environment"][0]


def test_a_new_partner_is_reminded_and_its_certificates_are_not_accepted_automatically(
    operator: Client,
) -> None:
    form = operator.get(reverse("partner-create")).context["form"]
    chosen = {name: form[name].value() for name in ("wants_pkcs7", "notify_expiry", "accept_by_rule")}
    assert chosen == {"wants_pkcs7": False, "notify_expiry": True, "accept_by_rule": False}


def test_changed_rules_for_their_certificates_are_shown_and_recorded(operator: Client) -> None:
    partner = make_partner()
    address = reverse("partner-update", args=[partner.uid])
    operator.post(address, form_data(wants_pkcs7="on", accept_by_rule="on"))
    partner.refresh_from_db()
    assert (partner.wants_pkcs7, partner.notify_expiry, partner.accept_by_rule) == (True, False, True)
    assert set(trail()[-1].new) >= {"wants_pkcs7", "notify_expiry", "accept_by_rule"}
    page = detail(operator, partner).content.decode()
    assert "nobody there is reminded of the end" in page
    assert "what a confirmed contact hands in is accepted" in page
    assert "and as PKCS#7" in page


def test_only_a_test_partner_in_use_can_be_rehearsed_on(operator: Client) -> None:
    other, gone = make_partner("OTHER"), make_partner("GONE", environment="test", archived_at=NOW)
    testing = make_partner("NW-TEST", environment="test")
    create = reverse("partner-create")
    for wrong in (other, gone):
        form = operator.post(create, form_data(rehearsal_partner=wrong.pk)).context["form"]
        said = "A change is rehearsed on a test partner that is in use: choose one of these, or none."
        assert form.errors["rehearsal_partner"] == [said]
    form = operator.post(create, form_data(environment="test", rehearsal_partner=testing.pk)).context["form"]
    assert "This is a test partner itself" in form.errors["rehearsal_partner"][0]
    assert operator.post(create, form_data(rehearsal_partner=testing.pk)).status_code == 302
    assert Partner.objects.get(as2_id="NORTHWIND").counterpart == testing
    change = reverse("partner-update", args=[testing.uid])
    form = operator.post(change, form_data(as2_id="NW-TEST")).context["form"]
    assert "Northwind is rehearsed on this one, so it stays a test partner" in form.errors["environment"][0]


def test_a_test_partner_with_the_same_as2_id_is_the_counterpart_once_it_is_connected(
    operator: Client,
) -> None:
    partner, namesake = make_partner(), make_partner(environment="test", name="Northwind (test)")
    make_partner("OTHER", environment="test")
    assert (partner.counterpart, namesake.rehearsed_here) == (None, [])
    assert "nothing: it has no test counterpart" in detail(operator, partner).content.decode()
    partnership = connect(make_identity("ACME-TEST", environment="test"), namesake)
    assert (partner.counterpart, namesake.rehearsed_here) == (namesake, [partner])
    assert namesake.counterpart is None
    assert "which has the same AS2 ID" in detail(operator, partner).content.decode()
    assert f'Rehearses</dt><dd><a href="{partner.get_absolute_url()}">' in text(detail(operator, namesake))
    partnership.archived_at = NOW
    partnership.save()
    assert (partner.counterpart, namesake.rehearsed_here) == (None, [])


def test_a_chosen_counterpart_precedes_one_with_the_same_as2_id_and_an_archived_one_is_none() -> None:
    chosen, namesake = make_partner("NW-TEST", environment="test"), make_partner(environment="test")
    partner = make_partner(rehearsal_partner=chosen)
    connect(make_identity("ACME-TEST", environment="test"), namesake)
    assert (partner.counterpart, namesake.rehearsed_here, chosen.rehearsed_here) == (chosen, [], [partner])
    chosen.archived_at = NOW
    chosen.save()
    assert (partner.counterpart, chosen.rehearsed_here) == (None, [])


def test_a_viewer_changes_nothing(viewer: Client) -> None:
    partner = make_partner()
    assert viewer.post(reverse("partner-create"), form_data(as2_id="NEW")).status_code == 403
    assert viewer.post(reverse("partner-update", args=[partner.uid]), form_data(name="mine")).status_code == 403
    assert viewer.post(reverse("partner-archive", args=[partner.uid]), {"reason": "x"}).status_code == 403
    assert list(Partner.objects.active()) == [partner]
    assert verbs() == []


# --- The page of one ------------------------------------------------------------------------------------------


def test_a_new_partner_has_open_tasks(operator: Client) -> None:
    needs = [need.text for need in detail(operator, make_partner()).context["needs"]]
    assert needs == [
        "There is no certificate that verifies their signatures or encrypts to them.",
        "It is connected with none of our identities.",
        "Nobody there is told of our new certificates by mail.",
    ]


def test_a_complete_partner_has_no_open_tasks(operator: Client) -> None:
    partner = make_partner()
    add_certificate(partner, days=300)
    connect(make_identity(), partner)
    Contact.objects.create(partner=partner, name="Dana", email="dana@example.com")
    assert detail(operator, partner).context["needs"] == []


def test_an_expiring_certificate_links_to_a_new_rotation(operator: Client) -> None:
    partner = make_partner()
    certificate = add_certificate(partner, days=5)
    need = detail(operator, partner).context["needs"][0]
    assert f"partner={partner.uid}&old={certificate.uid}&roles=verify&roles=encrypt" in need.url


def test_the_page_shows_the_local_time(operator: Client) -> None:
    page = detail(operator, make_partner(time_zone="America/Chicago")).content.decode()
    assert "where it is Mon 06:00 now" in page


def test_the_page_shows_the_changes_of_ours_that_it_takes_part_in(operator: Client) -> None:
    partner, identity = make_partner(), make_identity()
    rotation = start_rotation(identity, add_certificate(identity))
    rotation.participants.create(partner=partner)
    assert rotation.get_absolute_url() in detail(operator, partner).content.decode()


def test_more_contacts_and_connections_take_no_more_queries(operator: Client) -> None:
    partner = make_partner()
    old = add_certificate(partner, days=20)
    start_rotation(partner, old)
    first = make_identity("FIRST")
    connect(first, partner)
    start_rotation(first, None).participants.create(partner=partner)
    Contact.objects.create(partner=partner, name="Dana")
    few = count_queries(lambda: detail(operator, partner))
    for number in range(8):
        identity = make_identity(f"I{number}")
        connect(identity, partner)
        start_rotation(identity, None).participants.create(partner=partner)
        Contact.objects.create(partner=partner, name=f"Person {number}")
        start_rotation(partner, old, add_certificate(partner, days=400 + number))
    assert count_queries(lambda: detail(operator, partner)) == few


# --- Archive, restore, subscribe ------------------------------------------------------------------------------


def archive(client: Client, partner: Partner) -> str:
    answer = client.post(reverse("partner-archive", args=[partner.uid]), {"reason": "closed"}, follow=True)
    return str(next(iter(answer.context["messages"])))


def test_a_partner_is_archived_and_restored(operator: Client) -> None:
    partner = make_partner()
    assert "is archived" in archive(operator, partner)
    assert "is archived already" in archive(operator, partner)
    operator.post(reverse("partner-restore", args=[partner.uid]), {"reason": "back"})
    assert list(Partner.objects.active()) == [partner]
    assert verbs() == ["partner.archived", "partner.restored"]


def test_restoring_an_object_that_is_not_archived_is_refused(operator: Client) -> None:
    partner = make_partner()
    answer = operator.post(reverse("partner-restore", args=[partner.uid]), {"reason": "back"}, follow=True)
    assert "is not archived" in str(next(iter(answer.context["messages"])))


def test_a_partner_whose_certificate_is_being_replaced_is_not_archived(operator: Client) -> None:
    partner = make_partner()
    start_rotation(partner, add_certificate(partner))
    assert "A rotation of Northwind is running" in archive(operator, partner)
    assert Partner.objects.active().exists()


def test_a_partner_that_takes_part_in_a_rotation_is_archived_once_it_is_left_out(operator: Client) -> None:
    partner, identity = make_partner(), make_identity()
    part = start_rotation(identity, add_certificate(identity)).participants.create(partner=partner)
    assert "takes part in a running rotation" in archive(operator, partner)
    part.removed_reason = "left out"
    part.save()
    assert "is archived" in archive(operator, partner)


def test_a_partner_that_took_part_in_a_finished_rotation_is_archived(operator: Client) -> None:
    partner, identity = make_partner(), make_identity()
    rotation = start_rotation(identity, add_certificate(identity), state="closed", ended_at=NOW)
    rotation.participants.create(partner=partner)
    assert "is archived" in archive(operator, partner)


def test_a_viewer_subscribes_and_unsubscribes(viewer: Client) -> None:
    partner = make_partner()
    for expected in (["viewer"], []):
        viewer.post(reverse("partner-subscribe", args=[partner.uid]))
        assert [user.username for user in partner.subscribers.all()] == expected
    assert verbs() == ["partner.subscribed", "partner.unsubscribed"]
