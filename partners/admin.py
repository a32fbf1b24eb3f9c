"""Django admin for their side. Certificates and history are to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from as2certs.audit.admin import AuditedAdmin, ReadOnlyAdmin, ReadOnlyInline
from identities.admin import CERTIFICATE_FIELDS, CERTIFICATE_FILTERS, CertificateAdmin
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
        "told_new_certificates",
        "told_windows",
        "told_expiry",
        "confirmed_at",
        "bounced_at",
        "suggested_by",
    )
    readonly_fields = ("confirmed_at", "bounced_at", "suggested_by")


class PartnerServiceInline(ReadOnlyInline):
    model = PartnerService
    fields = ("role", "certificate", "starts_at", "ends_at")
    ordering = ("-starts_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("certificate")
        return rows.defer("certificate__der", "certificate__chain_pem")


@admin.register(Partner)
class PartnerAdmin(AuditedAdmin):
    form = PartnerAdminForm
    readonly_fields = ("uid", "archived_at")
    filter_horizontal = ("owners", "subscribers")
    list_display = (
        "name",
        "as2_id",
        "environment",
        "time_zone",
        "holds",
        "told_expiry",
        "accept_by_rule",
        "archived_at",
    )
    list_filter = (
        "environment",
        "holds",
        "told_expiry",
        "accept_by_rule",
        "wants_pkcs7",
        ("archived_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("name", "as2_id", "url", "notes", "uid")
    show_full_result_count = False
    inlines = (ContactInline, PartnerServiceInline)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*PartnerAdminForm.Meta.fields, *self.readonly_fields]


@admin.register(Contact)
class ContactAdmin(AuditedAdmin):
    """People at partners. They can be deleted: no history hangs on them."""

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
        "told_new_certificates",
        "told_windows",
        "told_expiry",
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
    """Who is connected. Made and ended on the pages, which see to the environments; the notes can be changed here."""

    fields = ("uid", "identity", "partner", "notes", "archived_at")
    readonly_fields = ("uid", "identity", "partner", "archived_at")
    list_display = ("identity", "partner", "archived_at")
    list_filter = ("identity__environment", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("identity", "partner")
    search_fields = ("identity__name", "identity__as2_id", "partner__name", "partner__as2_id")
    show_full_result_count = False

    def subjects(self, obj: models.Model) -> Sequence[models.Model]:
        assert isinstance(obj, Partnership)
        return (obj.identity, obj.partner)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PartnerCertificate)
class PartnerCertificateAdmin(CertificateAdmin):
    fields = ("partner", *CERTIFICATE_FIELDS)
    list_display = ("common_name", "partner", "short_name", "key_type", "key_size", "not_before", "not_after")
    list_filter = ("partner__environment", *CERTIFICATE_FILTERS)
    list_select_related = ("partner",)
    search_fields = ("common_name", "subject", "sha256", "sha1", "serial", "partner__name", "partner__as2_id")


@admin.register(PartnerService)
class PartnerServiceAdmin(ReadOnlyAdmin):
    list_display = ("partner", "role", "certificate", "starts_at", "ends_at")
    list_filter = ("role", ("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("partner", "certificate")
    search_fields = ("partner__name", "partner__as2_id", "certificate__sha256", "certificate__serial")
    date_hierarchy = "starts_at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("certificate__der", "certificate__chain_pem")


@admin.register(SigningChoice)
class SigningChoiceAdmin(ReadOnlyAdmin):
    list_display = ("partnership", "certificate", "starts_at", "ends_at")
    list_filter = (("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("partnership__identity", "partnership__partner", "certificate")
    search_fields = (
        "partnership__identity__name",
        "partnership__partner__name",
        "partnership__partner__as2_id",
        "certificate__sha256",
        "certificate__serial",
    )
    date_hierarchy = "starts_at"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("certificate__der", "certificate__chain_pem")
