"""People at their browsers: pages with forms, a clock that a test moves, and the mails that were sent."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.mail import outbox
from as2certs.mail.models import Message
from rotations import reminders, runner
from rotations.web.portal import page_views  # noqa: F401  # loaded, so that its clock is replaced too
from tests.people import confirm
from tests.rotations.company import NOW
from tests.rotations.web.portal.visitor import page_text

Fields = dict[str, list[str]]


class WebForm:
    """A form of a page: what a browser would send, its buttons and all names of fields."""

    def __init__(self, attributes: dict[str, str | None]) -> None:
        self.action = attributes.get("action") or ""
        self.method = (attributes.get("method") or "get").lower()
        self.values: Fields = {}
        self.names: set[str] = set()
        self.buttons: list[tuple[str, str, str]] = []
        self.choices: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"<{self.method} {self.action} {self.values} {self.buttons}>"


class FormParser(HTMLParser):
    """Collect the forms of a page, with what their fields hold when nobody has touched them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[WebForm] = []
        self._form: WebForm | None = None
        self._select: str | None = None
        self._textarea: str | None = None
        self._button: int | None = None
        self._first_option = True
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._form = WebForm(given)
            self.forms.append(self._form)
        if self._form is None:
            return
        name = given.get("name") or ""
        if tag == "input" and name:
            self._form.names.add(name)
            kind = given.get("type", "text")
            if kind in ("checkbox", "radio"):
                self._form.choices.setdefault(name, []).append(given.get("value") or "on")
                if "checked" in given:
                    self._form.values.setdefault(name, []).append(given.get("value") or "on")
            elif kind == "submit":
                self._form.buttons.append((name, given.get("value") or "", given.get("value") or ""))
            elif kind != "file":
                self._form.values.setdefault(name, []).append(given.get("value") or "")
        elif tag == "select":
            self._select, self._first_option = name, True
            self._form.names.add(name)
        elif tag == "option" and self._select:
            self._form.choices.setdefault(self._select, []).append(given.get("value") or "")
            if "selected" in given or self._first_option:
                self._form.values[self._select] = [given.get("value") or ""]
                self._first_option = False
        elif tag == "textarea":
            self._textarea = name
            self._form.names.add(name)
            self._form.values[name] = [""]
        elif tag == "button":
            self._form.buttons.append((name, given.get("value") or "", ""))
            self._button = len(self._form.buttons) - 1

    def handle_data(self, data: str) -> None:
        if self._form is None:
            return
        if self._textarea:
            self._form.values[self._textarea][0] += data.lstrip("\n")
        elif self._button is not None:
            name, value, label = self._form.buttons[self._button]
            self._form.buttons[self._button] = (name, value, " ".join(f"{label} {data}".split()))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None
        elif tag == "textarea":
            self._textarea = None
        elif tag == "button":
            self._button = None


class Browser:
    """One person's browser. ``page`` is the last response, ``text`` what a person reads on it."""

    def __init__(self, user: User | None = None) -> None:
        self.user = user
        self.client = Client()
        self.page: Any = None
        self.url = ""
        self.log_in()

    def log_in(self) -> None:
        if self.user is not None:
            self.client.force_login(self.user)
            confirm(self.client)

    def open(self, url: str) -> str:
        self.page = self.client.get(url, follow=True)
        if any("/login/" in address for address, _ in self.page.redirect_chain):  # the session is over
            self.log_in()
            self.page = self.client.get(url, follow=True)
        assert self.page.status_code == 200, (url, self.page.status_code)
        self.url = self.page.redirect_chain[-1][0] if self.page.redirect_chain else url
        return self.text

    def go(self, name: str, *args: object) -> str:
        return self.open(reverse(name, args=args))

    @property
    def text(self) -> str:
        return page_text(SimpleNamespace(content=re.sub(rb"(?s)<select.*?</select>", b" ", self.page.content)))

    @property
    def forms(self) -> list[WebForm]:
        return FormParser(self.page.content.decode()).forms

    def form(self, button: str) -> tuple[WebForm, tuple[str, str, str]]:
        """Return the form with a button of this label, and the button."""
        found = [(f, b) for f in self.forms for b in f.buttons if b[2].startswith(button)]
        assert found, (button, [f.buttons for f in self.forms])
        return found[0]

    def press(self, label: str, /, **fields: Any) -> str:
        """Fill in the form that has this button, leave its other fields as they are, press the button."""
        form, (name, value, _) = self.form(label)
        data: dict[str, Any] = dict(form.values)
        for field, given in fields.items():
            assert field in form.names or hasattr(given, "read"), (field, sorted(form.names))
            data[field] = given
        if name:
            data[name] = value
        self.page = self.client.post(form.action or self.url, data, follow=True)
        if self.page.redirect_chain:
            self.url = self.page.redirect_chain[-1][0]
        return self.text


class World:
    """A clock that stands still until a test moves it, and what runs by itself at its times."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def carry_out(self) -> None:
        """Let the due steps be carried out, and the mails that are queued leave."""
        runner.tick(wait=False)
        outbox.send_due(now=self.now, limit=500)

    def tick(self) -> None:
        """Let run what runs by itself: due steps, reminders and notices, and the outbox."""
        runner.tick(wait=False)
        reminders.run(self.now)
        outbox.send_due(now=self.now, limit=500)

    def at(self, moment: datetime) -> None:
        """Go to this moment at once, as if nothing had run meanwhile, and let run what is due."""
        self.now = moment
        self.tick()

    def pass_time(self, until: datetime, every: timedelta) -> None:
        while self.now + every < until:
            self.at(self.now + every)
        self.at(until)


def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> World:
    """Let every module read the clock of the world that is returned."""
    world = World()
    for name, module in list(sys.modules.items()):
        if name.startswith(("as2certs", "identities", "partners", "rotations")) and "database_now" in vars(module):
            monkeypatch.setattr(module, "database_now", world)
    defaults = runner.apply_due.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "clock", world)
    monkeypatch.setattr("django.utils.timezone.now", world)
    return world


def mails_to(address: str, *, since: datetime | None = None) -> list[Message]:
    """Return the mails that left for somebody, the first first."""
    found = Message.objects.filter(to_address__startswith=address, state="sent").order_by("id")
    return list(found.filter(created_at__gte=since) if since else found)


def words(message: Message) -> str:
    """Return subject and text of a mail in one line."""
    return " ".join(f"{message.subject} || {message.text}".split())


def link_in(message_text: str) -> str | None:
    found = re.search(r"https?://[^\s/]+(/p/[^\s/]+/)", message_text)
    return found[1] if found else None
