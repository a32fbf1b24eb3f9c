"""Django admin for our side. Certificates, keys and history are to be looked at; no key byte is ever read here."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from as2certs import pki
from as2certs.audit.admin import AuditedAdmin, ReadOnlyAdmin, ReadOnlyInline
from identities.forms import IdentityForm, SystemForm
from identities.models import (
    AS2System,
    CertificateRequest,
    Identity,
    IdentityCertificate,
    IdentityService,
    PrivateKey,
)

#: What is shown of a certificate of either side: everything but its bytes.
CERTIFICATE_FIELDS = (
    "uid",
    "common_name",
    "subject",
    "issuer",
    "self_signed",
    "serial",
    "fingerprint",
    "sha1",
    "not_before",
    "not_after",
    "key_type",
    "key_size",
    "signature_algorithm",
    "public_key_sha256",
    "chain_pem",
    "source",
    "created_at",
    "created_by",
)

CERTIFICATE_FILTERS = ("key_type", "key_size", "source", "self_signed", "not_after")


class IdentityAdminForm(IdentityForm):
    class Meta(IdentityForm.Meta):
        fields = [*IdentityForm.Meta.fields, "subscribers"]
        widgets = {"notes": forms.Textarea(attrs={"rows": 3})}


@admin.register(AS2System)
class AS2SystemAdmin(AuditedAdmin):
    form = SystemForm
    fields = (
        "name",
        "environment",
        "overlap",
        "signs_per_partner",
        "connector",
        "folder",
        "hook",
        "notes",
        "uid",
        "archived_at",
        "checked_at",
        "check_ok",
        "check_message",
    )
    readonly_fields = ("uid", "archived_at", "checked_at", "check_ok", "check_message")
    list_display = ("name", "environment", "connector", "overlap", "checked_at", "check_ok", "archived_at")
    list_filter = (
        "environment",
        "connector",
        "overlap",
        "check_ok",
        ("archived_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("name", "notes", "uid")


class IdentityServiceInline(ReadOnlyInline):
    model = IdentityService
    fields = ("role", "certificate", "starts_at", "ends_at")
    ordering = ("-starts_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("certificate")
        return rows.defer("certificate__der", "certificate__chain_pem")


@admin.register(Identity)
class IdentityAdmin(AuditedAdmin):
    form = IdentityAdminForm
    readonly_fields = ("uid", "archived_at")
    filter_horizontal = ("owners", "subscribers")
    list_display = ("name", "as2_id", "environment", "as2_system", "archived_at")
    list_filter = ("environment", "as2_system", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("as2_system",)
    search_fields = ("name", "as2_id", "url", "notes", "uid")
    inlines = (IdentityServiceInline,)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*IdentityAdminForm.Meta.fields, *self.readonly_fields]


class CertificateAdmin(ReadOnlyAdmin):
    """Certificates of either side: a row never changes, and its bytes are downloaded from its page."""

    date_hierarchy = "not_after"
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("der")

    @admin.display(description="SHA-256 fingerprint")
    def fingerprint(self, obj: Any) -> str:
        return pki.format_fingerprint(obj.sha256)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find a fingerprint in any spelling too."""
        try:
            return queryset.filter(sha256=pki.normalise_fingerprint(search_term)), False
        except pki.PkiError:
            return super().get_search_results(request, queryset, search_term)


@admin.register(IdentityCertificate)
class IdentityCertificateAdmin(CertificateAdmin):
    fields = ("identity", *CERTIFICATE_FIELDS, "private_key")
    list_display = (
        "common_name",
        "identity",
        "short_name",
        "key_type",
        "key_size",
        "not_before",
        "not_after",
    )
    list_filter = ("identity__environment", *CERTIFICATE_FILTERS)
    list_select_related = ("identity",)
    search_fields = (
        "common_name",
        "subject",
        "sha256",
        "sha1",
        "serial",
        "identity__name",
        "identity__as2_id",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .select_related("identity", "private_key__identity")
            .defer("private_key__sealed")
        )


@admin.register(IdentityService)
class IdentityServiceAdmin(ReadOnlyAdmin):
    list_display = ("identity", "role", "certificate", "starts_at", "ends_at")
    list_filter = ("role", ("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("identity", "certificate")
    search_fields = ("identity__name", "identity__as2_id", "certificate__sha256", "certificate__serial")
    date_hierarchy = "starts_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("certificate__der", "certificate__chain_pem")


@admin.register(PrivateKey)
class PrivateKeyAdmin(ReadOnlyAdmin):
    """That a key is here, and what kind: never its bytes, sealed or not."""

    fields = ("uid", "identity", "key_type", "key_size", "public_key_sha256", "created_at")
    list_display = ("identity", "key_type", "key_size", "public_key_sha256", "created_at")
    list_filter = ("key_type", "key_size", "created_at")
    list_select_related = ("identity",)
    search_fields = ("identity__name", "identity__as2_id", "public_key_sha256", "uid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("sealed")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse to filter by the sealed bytes: asked often enough, that would spell them."""
        return not lookup.startswith("sealed") and super().lookup_allowed(lookup, value, request)


@admin.register(CertificateRequest)
class CertificateRequestAdmin(ReadOnlyAdmin):
    list_display = ("identity", "kind", "bits", "state", "created_at", "created_by", "finished_at")
    list_filter = ("state", "kind", "bits", "created_at")
    list_select_related = ("identity", "created_by")
    search_fields = ("identity__name", "identity__as2_id", "uid", "error")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = (
            super()
            .get_queryset(request)
            .select_related("identity", "created_by", "private_key__identity", "certificate")
        )
        return rows.defer("private_key__sealed", "certificate__der", "certificate__chain_pem")
