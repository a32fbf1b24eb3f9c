"""The list of mails."""

from __future__ import annotations

from as2certs.mail.models import Message
from as2certs.tables import CompactTable, template_column


class MessageTable(CompactTable):
    """Mails, newest first."""

    created_at = template_column("mail/_cell_written.html", verbose_name="Written", order_by=("created_at", "id"))
    to_address = template_column("mail/_cell_to.html", verbose_name="To")
    subject = template_column("mail/_cell_subject.html")
    state = template_column("mail/_cell_state.html", order_by=("state", "due_at", "id"))
    again = template_column("mail/_cell_again.html", verbose_name="", orderable=False)

    class Meta(CompactTable.Meta):
        model = Message
        fields: tuple[str, ...] = ()
        sequence = ("created_at", "to_address", "subject", "state", "again")
        order_by = "-created_at"
        empty_text = "No mail is like that."
