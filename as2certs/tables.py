"""Tables of the application, rendered with little overhead per cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django_tables2 as tables
from django.template import Context
from django.template.loader import get_template
from django.utils.html import format_html
from django.utils.safestring import SafeString


class CellColumn(tables.TemplateColumn):
    """A column whose cells are rendered by a template with ``record`` and the context of the page."""

    def render_cell(self, record: Any, page: Context) -> SafeString:
        """Render a cell in the context of its page.

        ``TemplateColumn`` would create a context, and so run all context processors, for each cell.
        """
        with page.push(**{self.context_object_name: record}):
            html: SafeString = get_template(self.template_name).template.render(page)  # type: ignore[attr-defined]
        return html


def template_column(name: str, **kwargs: Any) -> CellColumn:
    """Return a column whose cells are rendered by ``templates/<name>``."""
    return CellColumn(template_name=name, **kwargs)


class CompactTable(tables.Table):
    """A table of the application. The attributes of its cells are the same in each row."""

    class Meta:
        template_name = "django_tables2/compact.html"
        attrs = {"class": "table table-stack table-hover"}

    def rendered_rows(self) -> Iterator[tuple[SafeString, list[tuple[SafeString, Any]]]]:
        """Yield the attributes of each row of the page with the attributes and contents of its cells."""
        attrs = {
            column.name: format_html('data-label="{}" {}', column.header, column.attrs["td"].as_html())
            for column in self.columns
        }
        for row in self.paginated_rows:
            cells = [(attrs[column.name], self._cell(row, column)) for column in self.columns]
            yield row.attrs.as_html(), cells

    def _cell(self, row: tables.rows.BoundRow, column: tables.columns.BoundColumn) -> Any:
        if isinstance(column.column, CellColumn):
            return column.column.render_cell(row.record, self.context)
        return row.get_cell(column.name)
