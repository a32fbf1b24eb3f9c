"""Django admin of identities. Certificates, keys and history are read-only; no byte of a key is ever loaded."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from as2certs import pki
from as2certs.audit.admin import AuditedAdmin, ReadOnlyAdmin, ReadOnlyInline
from identities.forms import CAPABILITY_FIELDS, IdentityForm, SystemForm
from identities.models import (
    AS2System,
    CertificateRequest,
    Identity,
    IdentityCertificate,
    IdentityService,
    PrivateKey,
)

#: The fields of a certificate, of an identity or a partner: everything but its bytes.
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
        *CAPABILITY_FIELDS,
        "switches_by_date",
        "drain_hours",
        "connector",
        "folder",
        "hook",
        "read_back",
        "file_names",
        "keystore",
        "keystore_password",
        "partnerships",
        "keystore_seconds",
        "partnerships_seconds",
        "rest_url",
        "rest_user",
        "rest_password",
        "webhook_url",
        "webhook_key_id",
        "webhook_secret",
        "webhook_ca",
        "aws_region",
        "aws_profiles",
        "azure_account",
        "azure_vault",
        "azure_agreements",
        "files_com_site",
        "files_com_api_key",
        "files_com_records",
        "notes",
        "uid",
        "archived_at",
        "checked_at",
        "check_ok",
        "check_message",
    )
    readonly_fields = ("uid", "archived_at", "checked_at", "check_ok", "check_message")
    list_display = ("name", "environment", "connector", "software", "checked_at", "check_ok", "archived_at")
    list_filter = (
        "environment",
        "connector",
        "software",
        "check_ok",
        ("archived_at", admin.EmptyFieldListFilter),
    )
    search_fields = ("name", "notes", "uid")


class ServiceInline(ReadOnlyInline):
    """The role assignments of a station."""

    fields = ("role", "certificate", "starts_at", "ends_at")
    ordering = ("-starts_at", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        return rows.with_certificates()


class IdentityServiceInline(ServiceInline):
    model = IdentityService


class StationAdmin(AuditedAdmin):
    """Identities or partners, with all fields of their ``form``."""

    readonly_fields = ("uid", "archived_at")
    filter_horizontal = ("owners", "subscribers")
    search_fields = ("name", "as2_id", "url", "notes", "uid")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        form: Any = self.form
        return [*form._meta.fields, *self.readonly_fields]


@admin.register(Identity)
class IdentityAdmin(StationAdmin):
    form = IdentityAdminForm
    list_display = ("name", "as2_id", "environment", "as2_system", "archived_at")
    list_filter = ("environment", "as2_system", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("as2_system",)
    inlines = (IdentityServiceInline,)


class CertificateAdmin(ReadOnlyAdmin):
    """Certificates of one model, read-only; their bytes are downloaded from their pages."""

    #: Name of the foreign key to the station.
    holder: ClassVar[str]

    date_hierarchy = "not_after"
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [self.holder, *CERTIFICATE_FIELDS]

    def get_list_display(self, request: HttpRequest) -> Any:
        return ["common_name", self.holder, "short_name", "key_type", "key_size", "not_before", "not_after"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        return [f"{self.holder}__environment", *CERTIFICATE_FILTERS]

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        columns = ("common_name", "subject", "sha256", "sha1", "serial")
        return [*columns, f"{self.holder}__name", f"{self.holder}__as2_id"]

    def get_list_select_related(self, request: HttpRequest) -> list[str]:
        return [self.holder]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("der")

    @admin.display(description="SHA-256 fingerprint")
    def fingerprint(self, obj: Any) -> str:
        return pki.format_fingerprint(obj.sha256)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find fingerprints in any notation too."""
        try:
            return queryset.filter(sha256=pki.normalise_fingerprint(search_term)), False
        except pki.PkiError:
            return super().get_search_results(request, queryset, search_term)


@admin.register(IdentityCertificate)
class IdentityCertificateAdmin(CertificateAdmin):
    holder = "identity"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*super().get_fields(request, obj), "private_key"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("identity", "private_key__identity")
        return rows.defer("private_key__sealed")


class PeriodAdmin(ReadOnlyAdmin):
    """Periods in which certificates were used, without their bytes."""

    date_hierarchy = "starts_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("certificate__der", "certificate__chain_pem")


@admin.register(IdentityService)
class IdentityServiceAdmin(PeriodAdmin):
    fields = ("role", "starts_at", "ends_at", "identity", "certificate")
    list_display = ("identity", "role", "certificate", "starts_at", "ends_at")
    list_filter = ("role", ("ends_at", admin.EmptyFieldListFilter), "starts_at")
    list_select_related = ("identity", "certificate")
    search_fields = ("identity__name", "identity__as2_id", "certificate__sha256", "certificate__serial")


@admin.register(PrivateKey)
class PrivateKeyAdmin(ReadOnlyAdmin):
    """The properties of stored keys, never their bytes, sealed or not."""

    fields = ("uid", "identity", "key_type", "key_size", "public_key_sha256", "created_at")
    list_display = ("identity", "key_type", "key_size", "public_key_sha256", "created_at")
    list_filter = ("key_type", "key_size", "created_at")
    list_select_related = ("identity",)
    search_fields = ("identity__name", "identity__as2_id", "public_key_sha256", "uid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("sealed")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Refuse filters by the sealed bytes, which would reveal them one by one."""
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
