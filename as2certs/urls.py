"""All URLs of the application."""

from django.contrib import admin
from django.urls import include, path

from as2certs.site.health import healthz, readyz

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("", include("as2certs.site.urls")),
    path("", include("as2certs.accounts.urls")),
    path("", include("as2certs.audit.urls")),
    path("", include("as2certs.mail.urls")),
    path("", include("identities.urls")),
    path("", include("partners.urls")),
    path("", include("rotations.urls")),
    path("", include("rotations.web.portal.urls")),
]

handler400 = "as2certs.site.error_pages.bad_request"
handler404 = "as2certs.site.error_pages.page_not_found"
handler500 = "as2certs.site.error_pages.server_error"
