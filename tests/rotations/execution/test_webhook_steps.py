"""Steps that a webhook carries out: a lost answer, a busy server, and one that is down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from as2certs.mail.models import Message
from identities.models import AS2System
from identities.system_credentials import seal_credentials
from partners import baselines
from partners.models import StationBaseline
from rotations.lifecycle import approval, drafts
from rotations.models import Rotation, Step
from rotations.planning.states import StepState
from tests.as2.server import LOOPBACK
from tests.identities.connectors.webhook_servers import KEY_ID, SECRET, Webhook, answering, cut, serve_webhook
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft
from tests.rotations.fake_clock import FakeClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates, pytest.mark.on_postgres]

STARTS = NOW + timedelta(hours=2)


@pytest.fixture
def hook(tmp_path: Path, settings: LazySettings) -> Iterator[Webhook]:
    settings.AS2CERTS_CONNECTOR_NETWORKS = list(LOOPBACK)
    with serve_webhook(tmp_path / "receiver") as webhook:
        yield webhook


def staged(hook: Webhook, clock: FakeClock) -> tuple[Company, Rotation]:
    """Return a rotation at the start of its window, whose new certificate the AS2 system decrypts with already."""
    company = make_company(connector="webhook")
    system = company.system
    assert system is not None
    system.config = {"webhook_url": hook.url, "webhook_key_id": KEY_ID, "webhook_ca": ""}
    system.sealed_credentials = seal_credentials({"webhook_secret": SECRET})
    system.save()
    for role in ("decrypt", "sign"):
        hook.put(role, company.old.sha256)
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    clock.apply_due()
    assert hook.used("decrypt") == [company.new.sha256, company.old.sha256]
    clock.now = STARTS
    hook.asked.clear()
    return company, rotation


def cut_over(rotation: Rotation) -> Step:
    return rotation.steps.get(act="cut_over")


def test_a_change_is_shown_to_be_in_use_and_agrees_with_the_next_comparison(hook: Webhook) -> None:
    clock = FakeClock()
    company, rotation = staged(hook, clock)
    clock.apply_due()
    step = cut_over(rotation)
    assert (step.state, step.in_use_at) == (StepState.DONE, STARTS)
    assert hook.used("sign") == [company.new.sha256]
    baselines.add_missing(now=clock.now)
    assert baselines.compare_next(lambda: clock.now)
    row = StationBaseline.objects.get()
    assert (row.state, row.differences) == (StationBaseline.State.DONE, [])


def test_a_lost_answer_is_read_before_anything_is_sent_again(hook: Webhook) -> None:
    clock = FakeClock()
    company, rotation = staged(hook, clock)
    hook.after_post.append(cut)
    clock.apply_due()
    assert cut_over(rotation).state == StepState.WAITING
    clock.now = STARTS + timedelta(seconds=10)
    clock.apply_due()
    assert cut_over(rotation).state == StepState.DONE
    assert hook.asked.count("POST") == 1
    assert hook.asked.index("POST") < len(hook.asked) - 1
    assert hook.used("sign") == [company.new.sha256]


def test_a_busy_server_is_not_asked_before_the_pause_that_it_asked_for(hook: Webhook) -> None:
    clock = FakeClock()
    _, rotation = staged(hook, clock)
    hook.in_place_of_post.append(answering(503, Retry_After="90"))
    clock.apply_due()
    assert cut_over(rotation).due_at == STARTS + timedelta(seconds=90)
    clock.now = STARTS + timedelta(seconds=90)
    clock.apply_due()
    assert cut_over(rotation).state == StepState.DONE


def test_a_server_that_answers_nothing_is_unreachable_and_the_change_is_caught_up(hook: Webhook) -> None:
    clock = FakeClock()
    company, rotation = staged(hook, clock)
    hook.in_place_of_get.extend([cut] * 20)
    for second in range(0, 20 * 60, 60):
        clock.now = STARTS + timedelta(seconds=second)
        clock.apply_due()
    step = cut_over(rotation)
    assert step.attempts > 12  # more than a step is tried that fails for another reason
    assert "could not be asked" in step.error
    hook.in_place_of_get.clear()
    clock.now = STARTS + timedelta(minutes=25)
    clock.apply_due()
    assert cut_over(rotation).state == StepState.DONE
    assert hook.used("sign") == [company.new.sha256]


def test_a_refusal_is_put_before_a_person(hook: Webhook) -> None:
    clock = FakeClock()
    company, rotation = staged(hook, clock)
    hook.in_place_of_post.append(answering(422, b"the alias is locked"))
    clock.apply_due()
    step = cut_over(rotation)
    assert step.state == StepState.FAILED
    assert "the alias is locked" in step.error
    assert hook.used("sign") == [company.old.sha256]


def test_that_the_private_key_is_not_sent_is_said_in_the_draft_at_approval_and_at_the_step() -> None:
    company = make_company(connector="webhook")
    draft = make_draft(company, starts=STARTS)
    sentence = f"The private key is not sent to {company.system}."
    assert [(f.code, f.level, f.reason) for f in drafts.successor_findings(draft, now=NOW)] == [
        ("key_by_hand", "warning", sentence)
    ]
    operator = log_in(make_person("olivia", "operator"))
    assert sentence in operator.get(draft.get_absolute_url()).content.decode()
    rotation = approval.approve(draft, by=company.approver, now=NOW)
    told = Message.objects.get(subject__contains="despite warnings")
    assert sentence in told.text
    hint = f"The private key is not sent: it has to be in {company.system} before this step."
    assert {step.act for step in rotation.steps.all() if step.key_by_hand == hint} == {"stage", "cut_over"}
    assert hint in operator.get(rotation.get_absolute_url()).content.decode()
    rotation.steps.update(state=StepState.DONE)
    assert not any(step.key_by_hand for step in rotation.steps.all())


def test_nothing_is_said_of_the_key_where_a_connector_or_a_person_brings_it() -> None:
    company = make_company()
    draft = make_draft(company, starts=STARTS)
    for connector in ("directory", "openas2", "aws_transfer", "manual"):
        AS2System.objects.update(connector=connector)
        draft = Rotation.objects.get(pk=draft.pk)
        assert drafts.successor_findings(draft, now=NOW) == []
