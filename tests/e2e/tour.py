"""A walk through every page that links lead to: first by asking for all of them, then by looking at them."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from playwright.sync_api import APIRequestContext, ViewportSize

from tests.e2e.desk import Desk

#: Lists can be searched, sorted and paged in many ways: so many addresses are asked for that differ in this alone.
VARIANTS = 8
#: In Django admin so many pages of each kind are asked for: they are all made alike.
ALIKE_IN_ADMIN = 4
#: So many in either case where not all objects are asked for.
FEW = 2
#: Where links start from; the second is what the search field leads to.
BEGINNINGS = ("/", "/search/?q=north")
PHONE, DESKTOP = ViewportSize(width=390, height=844), ViewportSize(width=1440, height=1200)

#: What is wrong with a page for somebody who can't see it, in words.
NAMES = """() => {
  const found = [];
  const text = (element) => (element?.textContent ?? "").trim();
  const said = (element) =>
    element.getAttribute("aria-label")?.trim() ||
    (element.getAttribute("aria-labelledby") ?? "")
      .split(/\\s+/)
      .map((id) => text(document.getElementById(id)))
      .join("") ||
    element.getAttribute("title")?.trim();
  const shown = (element) => element.outerHTML.slice(0, 160).replace(/\\s+/g, " ");
  const told = (element) => !element.closest("[hidden], [aria-hidden=true]");
  const all = (selector) => [...document.querySelectorAll(selector)].filter(told);
  const h1 = all("h1");
  if (h1.length !== 1) found.push(`${h1.length} headings of the first level`);
  if (h1.some((heading) => !text(heading))) found.push("an empty heading");
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  for (const field of all("input:not([type=hidden]):not([type=submit]), select, textarea"))
    if (![...(field.labels ?? [])].some(text) && !said(field)) found.push(`no label: ${shown(field)}`);
  for (const image of all("img")) if (!image.hasAttribute("alt")) found.push(`no alt: ${shown(image)}`);
  for (const image of all("[role=img], iframe"))
    if (!said(image) && !text(image)) found.push(`no name: ${shown(image)}`);
  for (const part of all("button, summary, a[href], [role=button]")) {
    const inside = [...part.querySelectorAll("[aria-label], img[alt]")].some((e) => (said(e) || e.alt || "").trim());
    if (!text(part) && !said(part) && !inside) found.push(`no name: ${shown(part)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) found.push(`the id ${id} comes twice`);
  return found;
}"""

#: By how many pixels the page is too wide, and what sticks out furthest.
WIDTH = """() => {
  const page = document.scrollingElement;
  const over = page.scrollWidth - page.clientWidth;
  if (over <= 0) return "";
  const parts = [...document.body.querySelectorAll("*")];
  const right = (part) => part.getBoundingClientRect().right;
  const widest = parts.reduce((one, other) => (right(other) > right(one) ? other : one));
  return `${over} px too wide: ${widest.outerHTML.slice(0, 120)}`;
}"""
OPEN_ALL = 'for (const part of document.querySelectorAll("main details:not(.menu)")) part.open = true'


class _Links(HTMLParser):
    """Collect where a page leads by GET, and what it is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = "href" if tag in ("a", "link") else "src" if tag in ("iframe", "img", "script") else ""
        if name and (to := given.get(name)):
            self.found.append(to)


@dataclass
class Answer:
    """What an address answered."""

    path: str  # with its query
    status: int
    is_page: bool
    came_from: str


@dataclass
class Tour:
    """All that was asked for, and what was found on the pages that were looked at, by path."""

    answers: list[Answer] = field(default_factory=list)
    too_wide: dict[str, list[str]] = field(default_factory=dict)
    nameless: dict[str, list[str]] = field(default_factory=dict)
    noticed: dict[str, list[str]] = field(default_factory=dict)

    @property
    def pages(self) -> list[str]:
        """Return the pages of the application itself, one for each address without its query.

        The HTML part of a mail is none: it is shown inside of another page.
        """
        paths = [a.path for a in self.answers if a.is_page and a.status == 200]
        own = [path for path in paths if not re.match(r"/admin/|/.*/html/?(\?|$)", path)]
        return list({urlsplit(path).path: path for path in reversed(own)}.values())

    @property
    def first_of_each_kind(self) -> list[str]:
        """Return one page of those that differ in the object alone that they show."""
        return list({kind_of(path): path for path in reversed(self.pages)}.values())


def kind_of(path: str) -> str:
    """Return a path without its query, and with a star for the object that it is about."""
    return re.sub("[0-9a-f-]{36}|[0-9]+", "*", path.partition("?")[0])


def ask_for_everything(request: APIRequestContext, url: str, *, alike: int | None = None) -> list[Answer]:
    """Follow the links from the first page on, as the person does whose cookies `request` has.

    Ask for so many pages that are ``alike`` in all but the object, by default for all objects; of lists that are
    searched, sorted and paged, and of Django admin, for a few.
    """
    waiting, seen = deque((path, "") for path in BEGINNINGS), set(BEGINNINGS)
    asked: Counter[str] = Counter()
    answers = []
    while waiting:
        path, came_from = waiting.popleft()
        response = request.get(url + path, max_redirects=0)
        is_page = "text/html" in response.headers.get("content-type", "")
        answers.append(Answer(path, response.status, is_page, came_from))
        links = [response.headers["location"]] if "location" in response.headers else []
        if is_page and response.status == 200:
            parser = _Links()
            parser.feed(response.text())
            links += parser.found
        for link in links:
            target = _own_address(urljoin(url + path, link), url)
            if target and target not in seen and _is_wanted(target, asked, alike):
                seen.add(target)
                waiting.append((target, path))
        response.dispose()
    return answers


def _own_address(link: str, url: str) -> str:
    """Return the path and query of an address of ours; nothing for others, such as mailto:."""
    return urldefrag(link)[0].removeprefix(url) if link.startswith(f"{url}/") else ""


def _is_wanted(target: str, asked: Counter[str], alike: int | None) -> bool:
    path, _, query = target.partition("?")
    in_admin = path.startswith("/admin/")
    if in_admin or query:
        most = FEW if alike is not None else ALIKE_IN_ADMIN if in_admin else VARIANTS
    elif alike is not None:
        most = alike
    else:
        return True
    kind = (path if alike is None and not in_admin else kind_of(path)) + "?" * bool(query)
    asked[kind] += 1
    return asked[kind] <= most


def look_at(desk: Desk, path: str, tour: Tour) -> None:
    """Open a page, and write down what is wrong with it on a phone and on a desk, in light and in dark."""
    before = len(desk.watch.seen)
    page = desk.page
    page.set_viewport_size(PHONE)
    desk.open(path)
    wrong = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        wrong += [f"{scheme}: {page.evaluate(WIDTH)}"]
    page.evaluate(OPEN_ALL)
    wrong += [f"all opened: {page.evaluate(WIDTH)}"]
    page.set_viewport_size(DESKTOP)
    wrong += [f"desktop: {page.evaluate(WIDTH)}"]
    tour.too_wide[path] = [words for words in wrong if not words.endswith(": ")]
    tour.nameless[path] = page.evaluate(NAMES)
    tour.noticed[path] = desk.watch.seen[before:]
