"""Django admin: the outbox, read-only. Failed mails are sent again on their page, which records it in the trail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from as2certs.audit.admin import ReadOnlyAdmin, ReadOnlyInline
from as2certs.mail.models import Attachment, Message, Postbox


class AttachmentInline(ReadOnlyInline):
    model = Attachment
    fields = ("name", "content_type")
    show_change_link = False


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "to_address", "subject", "state", "attempts", "sent_at", "bounced_at")
    list_filter = ("state", "kind", ("bounced_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("to_address", "to_name", "subject", "message_id", "error")
    show_full_result_count = False
    inlines = (AttachmentInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("sealed")


@admin.register(Postbox)
class PostboxAdmin(ReadOnlyAdmin):
    list_display = ("read_at", "failing_since", "error", "last_uid")
