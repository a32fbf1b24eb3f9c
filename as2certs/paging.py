"""Search terms and pages of lists, from the query string, without counting rows."""

from __future__ import annotations

import re

import django_tables2 as tables
from django.core.paginator import EmptyPage
from django.http import HttpRequest

PER_PAGE = 50

#: Valid page numbers: databases limit the size of an offset.
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")


def search_words(request: HttpRequest) -> str:
    """Return the search term ``q``, at most 200 characters, without NUL, which PostgreSQL refuses."""
    return request.GET.get("q", "").replace("\x00", "").strip()[:200]


def paginate_table(table: tables.Table, request: HttpRequest) -> None:
    """Sort and paginate a table by the query string; an invalid page is the first one.

    The number of rows per page is fixed, so that a URL can't request a million.
    """
    table.request = request
    requested_order = request.GET.getlist(table.prefixed_order_by_field)
    if order := [name for name in requested_order if name.removeprefix("-") in table.base_columns]:
        table.order_by = order
    page = request.GET.get(table.prefixed_page_field, "")
    number = int(page) if _PAGE_NUMBER.fullmatch(page) else 1
    try:
        table.paginate(tables.LazyPaginator, per_page=PER_PAGE, page=max(number, 1))
    except EmptyPage:
        table.page = table.paginator.page(1)
