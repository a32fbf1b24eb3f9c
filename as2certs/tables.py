"""Tables in this application's looks, drawn so that a page of a hundred rows costs little more than its cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django_tables2 as tables
from django.template import Context
from django.template.loader import get_template
from django.utils.html import format_html
from django.utils.safestring import SafeString


class CellColumn(tables.TemplateColumn):
    """A column whose cells are drawn by a template; it knows ``record``, and whatever the page knows."""

    def draw(self, record: Any, page: Context) -> SafeString:
        """Draw one cell in the context of its page.

        A context of its own, as ``TemplateColumn`` makes one, would ask all context processors again for each cell.
        """
        with page.push(**{self.context_object_name: record}):
            drawn: SafeString = get_template(self.template_name).template.render(page)  # type: ignore[attr-defined]
        return drawn


def template_column(name: str, **kwargs: Any) -> CellColumn:
    """Return a column whose cells are drawn by ``templates/<name>``."""
    return CellColumn(template_name=name, **kwargs)


class CompactTable(tables.Table):
    """A table in this application's looks. What cells have as attributes is the same in each row."""

    class Meta:
        template_name = "django_tables2/compact.html"
        attrs = {"class": "table table-stack table-hover"}

    def drawn_rows(self) -> Iterator[tuple[SafeString, list[tuple[SafeString, Any]]]]:
        """Yield the attributes of each row of the page, and for each of its cells the attributes and what it holds."""
        attrs = {
            column.name: format_html('data-label="{}" {}', column.header, column.attrs["td"].as_html())
            for column in self.columns
        }
        for row in self.paginated_rows:
            cells = [(attrs[column.name], self._cell(row, column)) for column in self.columns]
            yield row.attrs.as_html(), cells

    def _cell(self, row: tables.rows.BoundRow, column: tables.columns.BoundColumn) -> Any:
        drawing = column.column
        if isinstance(drawing, CellColumn):
            return drawing.draw(row.record, self.context)
        return row.get_cell(column.name)
