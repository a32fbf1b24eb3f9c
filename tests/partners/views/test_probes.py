"""The pages of test messages: allow, send, follow and download them."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from partners.models import Probe, ReceivedMessage
from partners.probes import sending
from tests.inventory import NOW, count_queries
from tests.partners.probes.peer import Stations, make_stations, serve_peer

pytestmark = pytest.mark.django_db


@pytest.fixture
def stations(clock: object) -> Stations:
    return make_stations()


def page(stations: Stations, name: str = "partnership-probes") -> str:
    return reverse(name, args=[stations.partnership.uid])


def test_a_message_is_sent_with_the_certificates_that_are_chosen(operator: Client, stations: Stations) -> None:
    with serve_peer(stations.peer, stations.partnership.partner):
        chosen = {"signing": str(stations.ours_new.uid), "encryption": str(stations.theirs.uid), "mdn": "sync"}
        answer = operator.post(page(stations), chosen)
        probe = Probe.objects.get()
        assert answer["Location"] == probe.get_absolute_url()
        assert "every 1s" in operator.get(probe.get_absolute_url()).content.decode()
        sending.send_next(lambda: NOW, lambda probe, now: None)
    shown = operator.get(probe.get_absolute_url(), headers={"HX-Request": "true"}).content.decode()
    assert "every 1s" not in shown
    assert "signature not accepted" in shown
    assert "Northwind does not accept our new signature" in shown
    assert (probe.created_by is None, probe.asks_async_mdn) == (False, False)
    for part, begins in (("request", b"AS2-Version: 1.2"), ("answer", b"AS2-Version")):
        answer = operator.get(reverse("probe-download", args=[probe.uid, part]))
        assert answer.content.startswith(begins)
        assert answer["Content-Disposition"].startswith("attachment")
    assert operator.get(reverse("probe-download", args=[probe.uid, "error"])).status_code == 404


def test_a_message_can_ask_for_an_asynchronous_mdn_and_the_next_form_offers_that(
    operator: Client, stations: Stations
) -> None:
    shown = operator.get(page(stations))
    assert shown.context["form"]["mdn"].value() == "sync"
    assert "/as2/." in shown.content.decode()
    with serve_peer(stations.peer, stations.partnership.partner):
        chosen = {"signing": str(stations.ours.uid), "encryption": str(stations.theirs.uid), "mdn": "async"}
        operator.post(page(stations), chosen)
        sending.send_next(lambda: NOW, lambda probe, now: None)
    probe = Probe.objects.get()
    assert probe.asks_async_mdn
    text = operator.get(probe.get_absolute_url()).content.decode()
    assert "waiting for its MDN" in text
    assert "every 10s" in text
    assert "it is awaited until" in text
    assert operator.get(page(stations)).context["form"]["mdn"].value() == "async"


def test_the_certificate_of_a_link_is_chosen_at_first(operator: Client, stations: Stations) -> None:
    form = operator.get(f"{page(stations)}?sign={stations.ours_new.uid}").context["form"]
    assert form["signing"].value() == str(stations.ours_new.uid)
    form = operator.get(f"{page(stations)}?sign=nothing").context["form"]
    assert form["signing"].value() == str(stations.ours.uid)


def test_a_certificate_that_is_not_offered_is_refused(operator: Client, stations: Stations) -> None:
    chosen = {"signing": str(stations.theirs.uid), "encryption": str(stations.theirs.uid)}
    answer = operator.post(page(stations), chosen)
    assert "signing" in answer.context["form"].errors
    assert not Probe.objects.exists()


def test_test_messages_are_allowed_and_forbidden_on_the_page(operator: Client, stations: Stations) -> None:
    operator.post(page(stations, "partnership-probes-forbid"))
    shown = operator.get(page(stations)).content.decode()
    assert "Test messages to Northwind are not allowed: agree on them with Northwind" in shown
    assert "Send a test message" not in shown
    operator.post(page(stations, "partnership-probes-allow"))
    assert "Send a test message to Northwind" in operator.get(page(stations)).content.decode()
    assert operator.get(page(stations, "partnership-probes-allow")).status_code == 405


def test_a_viewer_can_neither_allow_nor_send(viewer: Client, stations: Stations) -> None:
    for name in ("partnership-probes", "partnership-probes-allow", "partnership-probes-forbid"):
        assert viewer.post(page(stations, name)).status_code == 403
    assert not Probe.objects.exists()


def test_the_page_shows_messages_in_both_directions(operator: Client, stations: Stations) -> None:
    shown = operator.get(page(stations)).content.decode()
    assert "Northwind can send test messages to" in shown
    assert "with content that begins with the words TEST MESSAGE" in shown
    for number, problem in enumerate(("", "decryption-failed")):
        ReceivedMessage.objects.create(
            partnership=stations.partnership,
            message_id=f"<{number}@northwind.example>",
            state="done",
            created_at=NOW,
            problem=problem,
            sentence=f"Northwind sent number {number}.",
            next_step="Ask it.",
            repeats=number,
            signed_with=stations.theirs if number else None,
        )
    shown = operator.get(page(stations)).content.decode()
    assert "Northwind sent number 0." in shown
    assert "Northwind sent number 1. Ask it." in shown
    assert "not decrypted" in shown
    detail = operator.get(ReceivedMessage.objects.get(repeats=1).get_absolute_url()).content.decode()
    assert "processed/error: decryption-failed" in detail
    assert "The same message came 1 more time. It counts once." in detail
    stations.partnership.identity.certificates.update(private_key=None)
    assert "No private key of this identity is here" in operator.get(page(stations)).content.decode()
    operator.post(page(stations, "partnership-probes-forbid"))
    assert "Northwind can send test messages to" not in operator.get(page(stations)).content.decode()


def test_the_page_reads_as_many_rows_for_many_messages(operator: Client, stations: Stations) -> None:
    stations.request()
    few = count_queries(lambda: operator.get(page(stations)))
    Probe.objects.update(state="done", kind="accepted")
    for _ in range(5):
        stations.request()
        Probe.objects.update(state="done", kind="accepted")
    assert count_queries(lambda: operator.get(page(stations))) == few
