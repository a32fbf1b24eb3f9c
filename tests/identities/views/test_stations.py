"""The pages of identities: list, detail, form, archive and restore."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from identities.models import AS2System, CertificateRequest, Identity
from identities.views.stations import MAX_REQUESTS
from partners.models import Partnership
from tests.inventory import (
    NOW,
    add_certificate,
    client_of,
    count_queries,
    listed_names,
    make_identity,
    make_partner,
    start_rotation,
    trail,
    verbs,
)

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

LIST = "/identities/"


def form_data(**fields: Any) -> dict[str, Any]:
    return {"name": "ACME production", "as2_id": "ACME-PROD", "environment": "production", **fields}


def detail(client: Client, identity: Identity) -> Any:
    return client.get(identity.get_absolute_url())


# --- The list -------------------------------------------------------------------------------------------------


def test_the_empty_list_explains_identities_and_links_to_the_form(operator: Client) -> None:
    page = operator.get(LIST).content.decode()
    assert "one of your own AS2 stations" in page
    assert reverse("identity-create") in page


def test_the_list_excludes_archived_identities_by_default(operator: Client) -> None:
    make_identity("LIVE")
    make_identity("GONE", archived_at=NOW)
    assert listed_names(operator, LIST) == ["Live"]
    assert listed_names(operator, LIST, archived="only") == ["Gone"]
    assert listed_names(operator, LIST, archived="all") == ["Gone", "Live"]


@pytest.mark.on_postgres
def test_the_list_is_searched_by_name_and_as2_id(operator: Client) -> None:
    make_identity("ACME-PROD", name="Retail")
    make_identity("OTHER", name="Freight")
    assert listed_names(operator, LIST, q="acme") == ["Retail"]
    assert listed_names(operator, LIST, q=" freight ") == ["Freight"]


def test_the_list_is_filtered_by_expiry(operator: Client) -> None:
    add_certificate(make_identity("SOON"), days=20)
    add_certificate(make_identity("LATER"), days=200)
    make_identity("NEVER")
    assert listed_names(operator, LIST, expires="30") == ["Soon"]
    assert listed_names(operator, LIST, expires="expired") == []


def test_the_list_sorts_by_the_end_with_those_without_a_certificate_last(operator: Client) -> None:
    add_certificate(make_identity("LATER"), days=200)
    make_identity("NEVER")
    add_certificate(make_identity("SOON"), days=20)
    assert listed_names(operator, LIST, sort="in_use") == ["Soon", "Later", "Never"]
    assert listed_names(operator, LIST, sort="-in_use") == ["Later", "Soon", "Never"]


def test_the_list_is_paged_without_counting(operator: Client) -> None:
    for number in range(60):
        make_identity(f"ID-{number:03}")
    assert len(listed_names(operator, LIST)) == 50
    assert listed_names(operator, LIST, page="2")[0] == "Id-050"
    assert len(listed_names(operator, LIST, page="2")) == 10


@pytest.mark.parametrize("page", ["2", "9999", "0", "-1", "last"])
def test_no_page_of_a_list_counts_all_rows(operator: Client, page: str) -> None:
    for number in range(60):
        make_identity(f"ID-{number:03}")
    with CaptureQueriesContext(connection) as captured:
        answer = operator.get(LIST, {"page": page})
    assert answer.status_code == 200
    assert not [query["sql"] for query in captured if "COUNT(" in query["sql"]]


def test_a_longer_list_takes_no_more_queries(operator: Client) -> None:
    add_certificate(make_identity("ONE"))
    few = count_queries(lambda: operator.get(LIST))
    for number in range(12):
        system = AS2System.objects.create(name=f"System {number}")
        add_certificate(make_identity(f"ID-{number}", as2_system=system), days=30 + number)
    assert count_queries(lambda: operator.get(LIST)) == few


# --- The form -------------------------------------------------------------------------------------------------


def test_an_identity_is_created_and_recorded(operator: Client) -> None:
    owner = User.objects.get(username="operator")
    answer = operator.post(
        reverse("identity-create"), form_data(owners=[owner.pk], country="de", reminder_days="30, 7, -1")
    )
    identity = Identity.objects.get()
    assert answer["Location"] == identity.get_absolute_url()
    assert identity.country == "DE"
    assert identity.reminder_days == [30, 7, -1]
    (entry,) = trail()
    assert entry.verb == "identity.created"
    assert entry.actor == owner
    assert entry.address == "127.0.0.1"
    assert entry.new["owners"] == ["Operator"]
    assert "notes" not in entry.new


def test_a_change_is_recorded_with_old_and_new_values_only(operator: Client) -> None:
    identity = make_identity(name="Old name")
    operator.post(reverse("identity-update", args=[identity.uid]), form_data(name="New name"))
    (entry,) = trail()
    assert entry.verb == "identity.changed"
    assert (entry.old, entry.new) == ({"name": "Old name"}, {"name": "New name"})


def test_saving_without_a_change_leaves_no_entry(operator: Client) -> None:
    identity = make_identity(name="ACME production")
    operator.post(reverse("identity-update", args=[identity.uid]), form_data())
    assert verbs() == []


def test_a_viewer_changes_nothing(viewer: Client) -> None:
    identity = make_identity()
    for name, args in (("identity-create", []), ("identity-update", [identity.uid])):
        assert viewer.post(reverse(name, args=args), form_data(name="mine")).status_code == 403
    assert Identity.objects.get().name != "mine"


@pytest.mark.parametrize("as2_id", ['say "hi"', "back\\slash", "ümlaut", "x" * 129])
def test_an_as2_id_that_rfc_4130_does_not_allow_is_refused_at_its_field(operator: Client, as2_id: str) -> None:
    form = operator.post(reverse("identity-create"), form_data(as2_id=as2_id)).context["form"]
    assert list(form.errors) == ["as2_id"]
    assert not Identity.objects.exists()


def test_the_same_as2_id_twice_in_an_environment_is_refused_at_its_field(operator: Client) -> None:
    make_identity("ACME-PROD", name="First")
    form = operator.post(reverse("identity-create"), form_data()).context["form"]
    assert "First has the AS2 ID ACME-PROD in production already" in form.errors["as2_id"][0]
    assert operator.post(reverse("identity-create"), form_data(environment="test")).status_code == 302


def test_as2_ids_differ_by_case(operator: Client) -> None:
    make_identity("acme-prod")
    assert operator.post(reverse("identity-create"), form_data()).status_code == 302


def test_an_archived_identity_does_not_keep_its_as2_id(operator: Client) -> None:
    make_identity("ACME-PROD", archived_at=NOW)
    assert operator.post(reverse("identity-create"), form_data()).status_code == 302


def test_an_as2_system_of_the_other_environment_is_refused_at_its_field(operator: Client) -> None:
    system = AS2System.objects.create(name="Test system", environment="test")
    form = operator.post(reverse("identity-create"), form_data(as2_system=system.pk)).context["form"]
    assert "Test system is a test system, this is a production identity" in form.errors["as2_system"][0]


def test_only_a_test_identity_can_be_rehearsed_on(operator: Client) -> None:
    other = make_identity("OTHER")
    form = operator.post(reverse("identity-create"), form_data(rehearsal_identity=other.pk)).context["form"]
    said = "A change is rehearsed on a test identity that is in use: choose one of these, or none."
    assert form.errors["rehearsal_identity"] == [said]
    testing = make_identity("ACME-TEST", environment="test")
    assert operator.post(reverse("identity-create"), form_data(rehearsal_identity=testing.pk)).status_code == 302
    form = operator.post(
        reverse("identity-update", args=[testing.uid]),
        form_data(as2_id="ACME-TEST2", environment="production"),
    ).context["form"]
    assert "ACME production is rehearsed on this one, so it stays a test identity" in str(form.errors["environment"])


def test_a_test_identity_rehearses_on_nothing(operator: Client) -> None:
    testing = make_identity("OTHER-TEST", environment="test")
    data = form_data(environment="test", rehearsal_identity=testing.pk)
    form = operator.post(reverse("identity-create"), data).context["form"]
    assert "This is a test identity itself" in form.errors["rehearsal_identity"][0]
    assert Identity.objects.count() == 1


def test_an_archived_test_identity_is_not_offered_but_stays_valid(operator: Client) -> None:
    gone = make_identity("GONE-TEST", environment="test", archived_at=NOW)
    form = operator.post(reverse("identity-create"), form_data(rehearsal_identity=gone.pk)).context["form"]
    assert "in use" in form.errors["rehearsal_identity"][0]
    identity = make_identity(rehearsal_identity=gone)
    change = reverse("identity-update", args=[identity.uid])
    assert operator.post(change, form_data(rehearsal_identity=gone.pk)).status_code == 302
    assert "nothing: it has no test counterpart" in detail(operator, identity).content.decode()


def test_both_pages_show_the_test_counterpart(operator: Client) -> None:
    testing = make_identity("ACME-TEST", environment="test")
    identity = make_identity(rehearsal_identity=testing)
    other = make_identity("ACME-EU", rehearsal_identity=testing)
    make_identity("GONE", rehearsal_identity=testing, archived_at=NOW)
    here, there = detail(operator, identity), detail(operator, testing)
    assert here.context["counterpart"] == testing
    assert f'Rehearsed on</dt><dd><a href="{testing.get_absolute_url()}">' in here.content.decode()
    assert there.context["rehearsed_here"] == [other, identity]
    assert f'Rehearses</dt><dd><a href="{other.get_absolute_url()}">' in there.content.decode()


def test_an_identity_with_partners_stays_in_their_environment(operator: Client) -> None:
    identity, partner = make_identity(), make_partner()
    Partnership.objects.create(identity=identity, partner=partner)
    form = operator.post(reverse("identity-update", args=[identity.uid]), form_data(environment="test")).context["form"]
    assert "connected with Northwind" in form.errors["environment"][0]


def test_a_failed_form_still_shows_the_stored_name_in_its_head(operator: Client) -> None:
    identity = make_identity(name="Stored")
    page = operator.post(reverse("identity-update", args=[identity.uid]), form_data(name="Typed", as2_id=""))
    assert "<h1>Change Stored</h1>" in page.content.decode()


@pytest.mark.parametrize("ladder", ["thirty", "30, 30", "500", "1.5"])
def test_invalid_reminder_days_are_refused_at_their_field(operator: Client, ladder: str) -> None:
    form = operator.post(reverse("identity-create"), form_data(reminder_days=ladder)).context["form"]
    assert list(form.errors) == ["reminder_days"]


# --- The page of one ------------------------------------------------------------------------------------------


def test_the_page_shows_what_is_in_use_and_what_ends(operator: Client) -> None:
    identity = make_identity()
    certificate = add_certificate(identity, days=20)
    answer = detail(operator, identity)
    assert [s.current for s in answer.context["statuses"]] == [certificate, certificate]
    (need,) = answer.context["needs"]
    assert need.text == f"{certificate.short_name} (sign + decrypt) expires in 20 days, and no rotation is set up."
    assert f"identity={identity.uid}&old={certificate.uid}&roles=sign&roles=decrypt" in need.url


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (31.0, ""),
        (30.0, "expires in 30 days"),
        (1.0, "expires tomorrow"),
        (0.4, "expires today"),
        (-0.1, "has expired"),
    ],
)
def test_the_expiry_of_a_certificate_becomes_an_open_task_in_time(operator: Client, days: float, said: str) -> None:
    identity = make_identity()
    if days > 0:
        add_certificate(identity, days=days)
    else:
        certificate = add_certificate(identity, days=50, roles=("sign",))
        type(certificate).objects.filter(pk=certificate.pk).update(not_after=NOW + timedelta(days=days))
    texts = [need.text for need in detail(operator, identity).context["needs"] if "expire" in need.text]
    assert bool(texts) == bool(said)
    assert said in "".join(texts)


def test_a_running_rotation_silences_the_end_and_shows_what_comes_next(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=20)
    new = add_certificate(identity, days=700)
    starts = NOW + timedelta(days=1)
    start_rotation(identity, old, new, state="scheduled", window_start=starts, window_end=starts + timedelta(hours=1))
    answer = detail(operator, identity)
    assert answer.context["needs"] == []
    assert [(s.current, s.next, s.next_from) for s in answer.context["statuses"]] == [(old, new, starts)] * 2


def test_a_reader_shows_both_certificates_with_that_of_the_writer_first(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=20)
    new = add_certificate(identity, days=700)
    identity.service.create(role="decrypt", certificate=new, starts_at=NOW)
    assert detail(operator, identity).context["statuses"][1].now == (old, new)
    identity.service.filter(role="sign").update(certificate=new)
    assert detail(operator, identity).context["statuses"][1].now == (new, old)


def test_a_missing_certificate_is_an_open_task(operator: Client, viewer: Client) -> None:
    identity = make_identity()
    (need,) = detail(operator, identity).context["needs"]
    assert need.text == "There is no certificate that signs or decrypts."
    upload = reverse("identity-upload", args=[identity.uid])
    assert upload in detail(operator, identity).content.decode()
    assert upload not in detail(viewer, identity).content.decode()


def test_a_test_identity_is_marked_as_such(operator: Client) -> None:
    assert "TEST" in detail(operator, make_identity("T", environment="test")).content.decode()
    assert "TEST" not in detail(operator, make_identity("P")).content.decode()


def test_more_partners_and_certificates_take_no_more_queries(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=20)
    start_rotation(identity, old, add_certificate(identity, days=300))
    Partnership.objects.create(identity=identity, partner=make_partner("FIRST"))
    few = count_queries(lambda: detail(operator, identity))
    for number in range(8):
        Partnership.objects.create(identity=identity, partner=make_partner(f"P{number}"))
        new = add_certificate(identity, days=400 + number)
        identity.service.create(role="decrypt", certificate=new, starts_at=NOW)
        start_rotation(identity, old, new)
    assert count_queries(lambda: detail(operator, identity)) == few <= 17


def test_a_request_that_waits_for_its_ca_is_an_open_task_whatever_the_number_of_later_ones(
    operator: Client,
) -> None:
    identity = make_identity()
    waiting = CertificateRequest.objects.create(identity=identity, kind="csr", state="awaiting_ca", created_at=NOW)
    for _ in range(MAX_REQUESTS + 1):
        CertificateRequest.objects.create(identity=identity, state="failed", created_at=NOW)
    CertificateRequest.objects.create(identity=identity, state="done", created_at=NOW)
    answer = detail(operator, identity)
    assert [need.url for need in answer.context["needs"] if "CSR" in need.text] == [waiting.get_absolute_url()]
    assert [asked.state for asked in answer.context["requests"]] == ["failed"] * MAX_REQUESTS


def test_the_pages_load_no_bytes_of_keys(operator: Client) -> None:
    identity = make_identity()
    certificate = add_certificate(identity)
    with CaptureQueriesContext(connection) as captured:
        for address in (LIST, identity.get_absolute_url(), certificate.get_absolute_url(), "/certificates/"):
            assert operator.get(address).status_code == 200
    assert not [query["sql"] for query in captured if '"sealed"' in query["sql"]]


# --- Archive and restore --------------------------------------------------------------------------------------


def archive(client: Client, identity: Identity, reason: str = "closed down") -> list[str]:
    answer = client.post(reverse("identity-archive", args=[identity.uid]), {"reason": reason}, follow=True)
    return [str(message) for message in answer.context["messages"]]


def test_an_identity_is_archived_with_a_reason_and_restored(operator: Client) -> None:
    identity = make_identity()
    add_certificate(identity)
    archive(operator, identity)
    identity.refresh_from_db()
    assert identity.archived_at == NOW
    entry = Entry.objects.get(verb="identity.archived")
    assert entry.reason == "closed down"
    assert detail(operator, identity).context["needs"] == []
    operator.post(reverse("identity-restore", args=[identity.uid]), {"reason": "a mistake"})
    assert Identity.objects.active().get() == identity
    assert verbs()[-1] == "identity.restored"


def test_archiving_requires_a_reason(operator: Client) -> None:
    identity = make_identity()
    assert archive(operator, identity, reason=" ") == ["Say why."]
    assert Identity.objects.active().exists()


def test_archiving_twice_says_so_and_leaves_one_entry(operator: Client) -> None:
    identity = make_identity()
    archive(operator, identity)
    assert archive(operator, identity) == [f"{identity} is archived already."]
    assert verbs().count("identity.archived") == 1


def test_an_identity_with_a_running_rotation_is_not_archived(operator: Client) -> None:
    identity = make_identity()
    rotation = start_rotation(identity, add_certificate(identity))
    (said,) = archive(operator, identity)
    assert "A rotation of Acme-Prod is running" in said
    assert Identity.objects.active().exists()
    rotation.state = "cancelled"
    rotation.save()
    assert "is archived" in archive(operator, identity)[0]


def test_an_identity_whose_key_is_being_made_is_not_archived(operator: Client) -> None:
    identity = make_identity()
    CertificateRequest.objects.create(identity=identity, created_at=NOW)
    assert "is being generated" in archive(operator, identity)[0]


def test_an_identity_with_an_as2_id_in_use_is_not_restored(operator: Client) -> None:
    identity = make_identity(archived_at=NOW)
    make_identity(name="The new one")
    answer = operator.post(reverse("identity-restore", args=[identity.uid]), {"reason": "back"}, follow=True)
    assert "The new one uses the AS2 ID ACME-PROD" in str(next(iter(answer.context["messages"])))
    identity.refresh_from_db()
    assert identity.archived_at == NOW


def test_a_get_request_archives_nothing(operator: Client) -> None:
    identity = make_identity()
    assert operator.get(reverse("identity-archive", args=[identity.uid])).status_code == 405
    assert Identity.objects.active().exists()


def test_a_viewer_archives_nothing(viewer: Client) -> None:
    identity = make_identity()
    answer = viewer.post(reverse("identity-archive", args=[identity.uid]), {"reason": "why not"})
    assert answer.status_code == 403
    assert Identity.objects.active().exists()


# --- Reminders for oneself ------------------------------------------------------------------------------------


def test_a_viewer_subscribes_and_unsubscribes(viewer: Client) -> None:
    identity = make_identity()
    client_of("operator")
    for expected in (["viewer"], []):
        viewer.post(reverse("identity-subscribe", args=[identity.uid]))
        assert [user.username for user in identity.subscribers.all()] == expected
    assert verbs() == ["identity.subscribed", "identity.unsubscribed"]
