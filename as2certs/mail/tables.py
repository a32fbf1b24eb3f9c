"""The list of mails."""

from __future__ import annotations

import django_tables2 as tables

from as2certs.mail.models import Message


class MessageTable(tables.Table):
    """Mails, the newest first."""

    created_at = tables.TemplateColumn(
        template_name="mail/_cell_written.html", verbose_name="Written", order_by=("created_at", "id")
    )
    to_address = tables.TemplateColumn(template_name="mail/_cell_to.html", verbose_name="To")
    subject = tables.TemplateColumn(template_name="mail/_cell_subject.html")
    state = tables.TemplateColumn(template_name="mail/_cell_state.html", order_by=("state", "due_at", "id"))
    again = tables.TemplateColumn(template_name="mail/_cell_again.html", verbose_name="", orderable=False)

    class Meta:
        model = Message
        template_name = "django_tables2/compact.html"
        attrs = {"class": "table table-stack table-hover"}
        fields: tuple[str, ...] = ()
        sequence = ("created_at", "to_address", "subject", "state", "again")
        order_by = "-created_at"
        empty_text = "No mail is like that."
