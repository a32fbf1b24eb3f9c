"""Steps that a person settles: done by hand, left out, tried again."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from as2certs.accounts.access import needs
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.lifecycle import actions
from rotations.planning.plan import Act
from rotations.web.forms.actions import DoneForm, NothingForm, ReasonForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.open_tasks import is_our_turn
from rotations.web.views.confirm_page import Question, ask, found, found_step, posted

#: What only a partner's own answer settles.
ANSWERED = (Act.INSTALL, Act.AGREE)


@needs("rotations.change_rotation")
def step_done(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = found_step(uid)
    form = DoneForm(posted(request))
    consequences = [step.why] if step.why else []
    if step.earliest_at and step.earliest_at > database_now():
        when = rotation_text.at(step.earliest_at, step.rotation.window_zone, database_now())
        consequences.insert(0, f"Too early: the plan says not before {when}.")
    question = Question(title=step.title, label="Record it as done", consequences=consequences)

    def do() -> None:
        actions.complete(step, note=form.cleaned_data["note"], by=Actor.of(request), now=database_now())

    return ask(request, step.rotation, form, question, do, f"Recorded as done: {step.title}.")


@needs("rotations.change_rotation")
def steps_done(request: HttpRequest, uid: UUID, act: str) -> HttpResponse:
    """Record what was done for several partners alike, such as one mail to all of them."""
    rotation, now = found(uid), database_now()
    same = rotation.steps.filter(act=act).select_related("participant__partner")
    steps = [step for step in same if step.act not in ANSWERED and is_our_turn(step, now=now)]
    form = DoneForm(posted(request))
    question = Question(
        title=f"Record {len(steps)} steps as done",
        label=f"Record all {len(steps)} as done",
        consequences=[step.title for step in steps],
        obstacle="" if steps else "None of these steps is waiting to be done now.",
    )

    @transaction.atomic
    def do() -> None:
        for step in steps:
            actions.complete(step, note=form.cleaned_data["note"], by=Actor.of(request), now=database_now())

    return ask(request, rotation, form, question, do, f"Recorded as done: {len(steps)} steps.")


@needs("rotations.change_rotation")
def step_skip(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = found_step(uid)
    form = ReasonForm(posted(request))
    question = Question(
        title=f"Leave out: {step.title}",
        label="Leave this step out",
        consequences=["The steps after it go on as if it were done.", *([step.why] if step.why else [])],
        danger=True,
    )

    def do() -> None:
        actions.skip(step, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now())

    return ask(request, step.rotation, form, question, do, f"Left out: {step.title}.")


@needs("rotations.change_rotation")
def step_retry(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = found_step(uid)
    form = NothingForm(posted(request))
    tried = f"It failed: {step.error}" if step.error else "It is tried once more."
    question = Question(title=f"Try again: {step.title}", label="Try again now", consequences=[tried])

    def do() -> None:
        actions.retry(step, by=Actor.of(request), now=database_now())

    return ask(request, step.rotation, form, question, do, f"Tried again: {step.title}.")
