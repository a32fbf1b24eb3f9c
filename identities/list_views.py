"""Lists: narrowed, sorted, and paged without counting, so that 100,000 rows cost what 50 do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_tables2 as tables
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_filters import FilterSet

from as2certs.clock import database_now
from as2certs.paging import paginate_table


def order_by_expiry(service: type[Any], holder: str) -> Callable[[Any, QuerySet[Any], bool], Any]:
    """Return an ordering of stations by the end of what serves them, those without last."""

    def order(table: Any, queryset: QuerySet[Any], is_descending: bool) -> tuple[QuerySet[Any], bool]:
        open_rows = service._default_manager.filter(**{holder: OuterRef("pk")}, ends_at=None)
        ends = Subquery(open_rows.order_by("certificate__not_after").values("certificate__not_after")[:1])
        ordered = queryset.annotate(ends=ends)
        by = ordered.query.resolve_ref("ends")
        return ordered.order_by(
            by.desc(nulls_last=True) if is_descending else by.asc(nulls_last=True), "name", "id"
        ), True

    return order


def render_list(
    request: HttpRequest,
    template: str,
    *,
    filters: type[FilterSet],
    table: type[tables.Table],
    rows: QuerySet[Any],
    **context: Any,
) -> HttpResponse:
    """Answer with one page of a list. ``table`` and ``filter`` are in the template's context."""
    narrowing = filters(request.GET, queryset=rows)
    shown = table(narrowing.qs)  # with the request it would page by itself, and count
    paginate_table(shown, request)
    context |= {"filter": narrowing, "table": shown, "now": database_now()}
    return render(request, template, context)
