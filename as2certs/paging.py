"""Read what an address asks of a list: what is searched for, and which page, without counting rows."""

from __future__ import annotations

import re

import django_tables2 as tables
from django.core.paginator import EmptyPage
from django.http import HttpRequest

PER_PAGE = 50

#: Page numbers that are looked up; no database takes an offset of any length.
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")


def search_words(request: HttpRequest) -> str:
    """Return the words that are searched for (``q``), at most 200 characters; PostgreSQL knows no NUL in a text."""
    return request.GET.get("q", "").replace("\x00", "").strip()[:200]


def paginate_table(table: tables.Table, request: HttpRequest) -> None:
    """Sort a table and turn to its page as the address asks; a page that there can't be is the first one.

    How many rows a page has is ours to say: an address that could ask for a million would be answered with them.
    """
    table.request = request
    asked_order = request.GET.getlist(table.prefixed_order_by_field)
    if order := [name for name in asked_order if name.removeprefix("-") in table.base_columns]:
        table.order_by = order
    asked = request.GET.get(table.prefixed_page_field, "")
    number = int(asked) if _PAGE_NUMBER.fullmatch(asked) else 1
    try:
        table.paginate(tables.LazyPaginator, per_page=PER_PAGE, page=max(number, 1))
    except EmptyPage:
        table.page = table.paginator.page(1)
