"""Render a report as a PDF on A4, with embedded fonts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from fpdf import FPDF, FontFace

from as2certs.site.rotation_report import ReportSection, RotationReport

FONTS = Path(settings.BASE_DIR) / "static" / "vendor" / "dejavu-fonts-2.37"
MUTED_COLOR = (82, 96, 100)
LINE_COLOR = (195, 205, 207)
HEADER_COLOR = (242, 245, 245)


class _ReportPDF(FPDF):
    """A4 landscape, with title and page number on each page."""

    def __init__(self, report: RotationReport, show_progress: Callable[[int], None]) -> None:
        super().__init__(orientation="landscape", format="A4")
        self.report, self.show_progress = report, show_progress
        self.set_margins(14, 14)
        self.set_auto_page_break(auto=True, margin=16)
        for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
            self.add_font("sans", style, FONTS / file)
        self.set_title(report.title)
        self.set_author(report.our_name)
        self.set_creator("AS2 Certs")
        self.set_lang("en")

    def footer(self) -> None:
        self.set_y(-12)
        self.set_font("sans", size=7)
        self.set_text_color(*MUTED_COLOR)
        made = f"{self.report.our_name} · {self.report.title} · made {self.report.made_at} by {self.report.made_by}"
        self.cell(0, 5, made[:150])
        self.set_x(-40)
        self.cell(26, 5, f"{self.page_no()} of {{nb}}", align="R")
        self.set_text_color(0)
        self.show_progress(self.page_no())


def render_pdf(report: RotationReport, show_progress: Callable[[int], None] = lambda pages: None) -> bytes:
    """Return a report as a PDF file; ``show_progress`` is called with the number of pages after each of them."""
    paper = _ReportPDF(report, show_progress)
    paper.add_page()
    paper.set_font("sans", "B", 15)
    paper.multi_cell(0, 8, report.title, new_x="LMARGIN", new_y="NEXT")
    paper.set_font("sans", size=8)
    paper.set_text_color(*MUTED_COLOR)
    paper.multi_cell(0, 5, "All times are in UTC unless they name a zone.", new_x="LMARGIN", new_y="NEXT")
    paper.set_text_color(0)
    for section in report.sections:
        _draw_section(paper, section)
    return bytes(paper.output())


def _draw_section(paper: _ReportPDF, section: ReportSection) -> None:
    paper.ln(4)
    if paper.will_page_break(45):
        paper.add_page()
    paper.set_font("sans", "B", 11)
    paper.multi_cell(0, 7, section.title, new_x="LMARGIN", new_y="NEXT")
    paper.set_draw_color(*LINE_COLOR)
    paper.set_font("sans", size=7.5)
    if section.note:
        paper.multi_cell(0, 5, section.note, new_x="LMARGIN", new_y="NEXT")
    rows = [list(fact) for fact in section.facts]
    table = section.table
    if not rows and table is None:
        return
    style = FontFace(emphasis="BOLD", fill_color=HEADER_COLOR)
    with paper.table(
        col_widths=tuple(table.widths) if table else (1, 4),
        line_height=4,
        padding=(0.8, 1),
        text_align="LEFT",
        v_align="TOP",
        borders_layout="HORIZONTAL_LINES",
        headings_style=style,
        first_row_as_headings=table is not None,
        width=paper.epw,
    ) as drawn:
        for cells in [list(table.head), *table.rows] if table else rows:
            row = drawn.row()
            for cell in cells:
                row.cell(_breakable(cell))


def _breakable(text: str) -> str:
    """Let long digits break: a zero-width space behind each colon of a fingerprint."""
    return text.replace(":", ":\u200b") if text.count(":") > 8 else text
