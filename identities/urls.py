"""Addresses of our side."""

from django.urls import path

from identities.views import certificate_import, certificates, private_keys, stations, systems

urlpatterns = [
    path("identities/", stations.identity_list, name="identity-list"),
    path("identities/new/", stations.identity_create, name="identity-create"),
    path("identities/<uuid:uid>/", stations.identity_detail, name="identity-detail"),
    path("identities/<uuid:uid>/edit/", stations.identity_update, name="identity-update"),
    path("identities/<uuid:uid>/archive/", stations.identity_archive, name="identity-archive"),
    path("identities/<uuid:uid>/restore/", stations.identity_restore, name="identity-restore"),
    path("identities/<uuid:uid>/subscribe/", stations.identity_subscribe, name="identity-subscribe"),
    path("identities/<uuid:uid>/upload/", certificate_import.identity_upload, name="identity-upload"),
    path("identities/<uuid:uid>/generate/", certificate_import.identity_generate, name="identity-generate"),
    path("certificates/", certificates.certificate_list, name="certificate-list"),
    path("certificates/<uuid:uid>/", certificates.certificate_detail, name="certificate-detail"),
    path("certificates/<uuid:uid>/export/", certificates.certificate_export, name="certificate-export"),
    path(
        "certificates/<uuid:uid>/export-private/",
        private_keys.certificate_export_private,
        name="certificate-export-private",
    ),
    path("requests/<uuid:uid>/", certificate_import.request_detail, name="request-detail"),
    path("requests/<uuid:uid>/csr/", certificate_import.request_csr, name="request-csr"),
    path("requests/<uuid:uid>/answer/", certificate_import.request_answer, name="request-answer"),
    path("systems/", systems.system_list, name="system-list"),
    path("systems/new/", systems.system_create, name="system-create"),
    path("systems/<uuid:uid>/", systems.system_detail, name="system-detail"),
    path("systems/<uuid:uid>/edit/", systems.system_update, name="system-update"),
    path("systems/<uuid:uid>/check/", systems.system_check, name="system-check"),
    path("systems/<uuid:uid>/archive/", systems.system_archive, name="system-archive"),
    path("systems/<uuid:uid>/restore/", systems.system_restore, name="system-restore"),
]
