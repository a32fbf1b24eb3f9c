"""Somebody at a partner who opens the page behind their link, and sends what they filled in there."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client
from django.urls import reverse

from rotations.letters.access_links import NewLink


class Visitor:
    """A browser with a link. ``page`` is what it saw last: forms are sent with what stands in it."""

    def __init__(self, fresh: NewLink, address: str) -> None:
        self.link = fresh.link
        self.token = fresh.url.rstrip("/").rsplit("/", 1)[1]
        self.client = Client(REMOTE_ADDR=address)
        self.page: Any = None

    def address(self, name: str = "portal", *args: str) -> str:
        return reverse(name, args=[self.token, *args])

    def open(self) -> Any:
        self.page = self.client.get(self.address())
        return self.page

    def send(self, name: str, /, **data: Any) -> Any:
        """Send a form from the page as it was seen, and return the answer; it is followed to where it leads."""
        if self.page is None:
            self.open()
        seen = re.search(r'name="seen" value="([^"]*)"', self.page.content.decode())
        data.setdefault("seen", seen[1] if seen else "")
        answer = self.client.post(self.address(f"portal-{name}"), data)
        if answer.status_code == 302:
            assert answer["Location"] == self.address()
            return self.open()
        self.page = answer
        return answer

    @property
    def text(self) -> str:
        """Return the page as its reader has it, without tags and in one line."""
        return page_text(self.page)


def page_text(page: Any) -> str:
    """Return what a page says, without tags and in one line."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page.content.decode(), flags=re.S)
    words = re.sub(r"<wbr>", "", html)
    words = re.sub(r"<[^>]+>", " ", words)
    for entity, sign in (("&#x27;", "'"), ("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        words = words.replace(entity, sign)
    return re.sub(r"\s+([.,:;?!])", r"\1", " ".join(words.split()))
