"""Django admin of partners. Certificates and history are read-only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from as2certs.audit.admin import AuditedAdmin, ReadOnlyInline
from identities.admin import CertificateAdmin, PeriodAdmin, ServiceInline, StationAdmin
from partners.forms import ContactForm, PartnerForm
from partners.models import (
    Contact,
    Partner,
    PartnerCertificate,
    PartnerService,
    Partnership,
    SigningChoice,
)


class PartnerAdminForm(PartnerForm):
    class Meta(PartnerForm.Meta):
        fields = [*PartnerForm.Meta.fields, "subscribers"]
        widgets = {"notes": forms.Textarea(attrs={"rows": 3})}


class ContactInline(ReadOnlyInline):
    model = Contact
    fields = (
        "name",
        "job",
        "email",
        "phone",
        "notify_new_certificates",
        "notify_windows",
        "notify_expiry",
        "confirmed_at",
        "bounced_at",
        "suggested_by",
    )
    readonly_fields = ("confirmed_at", "bounced_at", "suggested_by")


class PartnerServiceInline(ServiceInline):
    model = PartnerService


@admin.register(Partner)
class PartnerAdmin(StationAdmin):
    form = PartnerAdminForm
    list_display = (
        "name",
        "as2_id",
        "environment",
        "time_zone",
        "software",
        "notify_expiry",
        "accept_by_rule",
        "archived_at",
    )
    list_filter = (
        "environment",
        "software",
        "notify_expiry",
        "accept_by_rule",
        "wants_pkcs7",
        ("archived_at", admin.EmptyFieldListFilter),
    )
    show_full_result_count = False
    inlines = (ContactInline, PartnerServiceInline)


@admin.register(Contact)
class ContactAdmin(AuditedAdmin):
    """Contacts can be deleted: no history refers to them."""

    form = ContactForm
    readonly_fields = (
        "suggested_by",
        "confirmed_at",
        "confirmed_by",
        "confirmed_how",
        "bounced_at",
        "bounce_reason",
    )
    list_display = ("name", "partner", "email", "phone", "job", "confirmed_at", "bounced_at", "suggested_by")
    list_filter = (
        "notify_new_certificates",
        "notify_windows",
        "notify_expiry",
        ("confirmed_at", admin.EmptyFieldListFilter),
        ("bounced_at", admin.EmptyFieldListFilter),
        ("suggested_by", admin.EmptyFieldListFilter),
        "partner__environment",
    )
    list_select_related = ("partner",)
    search_fields = ("name", "email", "phone", "partner__name", "partner__as2_id")
    raw_id_fields = ("partner",)  # Django’s search field breaks on an id that is none

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return ["partner", *ContactForm.Meta.fields, *self.readonly_fields]

    def subjects(self, obj: models.Model) -> Sequence[models.Model]:
        assert isinstance(obj, Contact)
        return (obj.partner,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("partners.delete_contact")


@admin.register(Partnership)
class PartnershipAdmin(AuditedAdmin):
    """Partnerships are created and ended on the pages, which check the environments; here only the notes change."""

    fields = ("uid", "identity", "partner", "notes", "archived_at")
    readonly_fields = ("uid", "identity", "partner", "archived_at")
    list_display = ("identity", "partner", "archived_at")
    list_filter = ("identity__environment", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("identity", "partner")
    search_fields = ("identity__name", "identity__as2_id", "partner__name", "partner__as2_id")
    show_full_result_count = False

    def subjects(self, obj: models.Model) -> Sequence[models.Model]:
        assert isinstance(obj, Partnership)
        return obj.audit_subjects

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PartnerCertificate)
class PartnerCertificateAdmin(CertificateAdmin):
    holder = "partner"


@admin.register(PartnerService)
class PartnerServiceAdmin(PeriodAdmin):
    fields = ("role", "starts_at", "ends_at", "partner", "certificate")
    list_display = ("partner", "role", "certificate", "starts_at", "ends_at")
    list_filter = ("role", ("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("partner", "certificate")
    search_fields = ("partner__name", "partner__as2_id", "certificate__sha256", "certificate__serial")
    show_full_result_count = False


@admin.register(SigningChoice)
class SigningChoiceAdmin(PeriodAdmin):
    fields = list_display = ("partnership", "certificate", "starts_at", "ends_at")
    show_full_result_count = False
    list_filter = (("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("partnership__identity", "partnership__partner", "certificate")
    search_fields = (
        "partnership__identity__name",
        "partnership__partner__name",
        "partnership__partner__as2_id",
        "certificate__sha256",
        "certificate__serial",
    )
