"""Addresses of their side."""

from django.urls import path

from partners.views import baselines, certificates, contacts, importing, partnerships, probes, stations

urlpatterns = [
    path("partners/", stations.partner_list, name="partner-list"),
    path("partners/import/", importing.partner_import, name="partner-import"),
    path("partners/new/", stations.partner_create, name="partner-create"),
    path("partners/<uuid:uid>/", stations.partner_detail, name="partner-detail"),
    path("partners/<uuid:uid>/edit/", stations.partner_update, name="partner-update"),
    path("partners/<uuid:uid>/archive/", stations.partner_archive, name="partner-archive"),
    path("partners/<uuid:uid>/restore/", stations.partner_restore, name="partner-restore"),
    path("partners/<uuid:uid>/subscribe/", stations.partner_subscribe, name="partner-subscribe"),
    path("systems/<uuid:uid>/baseline/", baselines.system_baseline, name="system-baseline"),
    path("differences/<uuid:uid>/adopt/", baselines.difference_adopt, name="difference-adopt"),
    path("partners/<uuid:uid>/upload/", certificates.partner_upload, name="partner-upload"),
    path("partners/<uuid:uid>/contacts/new/", contacts.contact_create, name="contact-create"),
    path("contacts/<uuid:uid>/edit/", contacts.contact_update, name="contact-update"),
    path("contacts/<uuid:uid>/delete/", contacts.contact_delete, name="contact-delete"),
    path("contacts/<uuid:uid>/confirm/", contacts.contact_confirm, name="contact-confirm"),
    path("contacts/<uuid:uid>/doubt/", contacts.contact_doubt, name="contact-doubt"),
    path("contacts/<uuid:uid>/take-on/", contacts.contact_take_on, name="contact-take-on"),
    path("contacts/<uuid:uid>/dismiss/", contacts.contact_dismiss, name="contact-dismiss"),
    path("contacts/<uuid:uid>/works-again/", contacts.contact_works_again, name="contact-works-again"),
    path("partners/certificates/", certificates.certificate_list, name="partner-certificate-list"),
    path(
        "partners/certificates/<uuid:uid>/",
        certificates.certificate_detail,
        name="partner-certificate-detail",
    ),
    path(
        "partners/certificates/<uuid:uid>/export/",
        certificates.certificate_export,
        name="partner-certificate-export",
    ),
    path("partnerships/new/", partnerships.partnership_create, name="partnership-create"),
    path("partnerships/<uuid:uid>/test-messages/", probes.partnership_probes, name="partnership-probes"),
    path(
        "partnerships/<uuid:uid>/test-messages/regular/",
        probes.partnership_probes_schedule,
        name="partnership-probes-schedule",
    ),
    path(
        "partnerships/<uuid:uid>/test-messages/allow/", probes.partnership_probes_allow, name="partnership-probes-allow"
    ),
    path(
        "partnerships/<uuid:uid>/test-messages/forbid/",
        probes.partnership_probes_forbid,
        name="partnership-probes-forbid",
    ),
    path("test-messages/<uuid:uid>/", probes.probe_detail, name="probe-detail"),
    path("test-messages/received/<uuid:uid>/", probes.received_message_detail, name="received-message-detail"),
    path("test-messages/<uuid:uid>/<str:part>/", probes.probe_download, name="probe-download"),
    path("partnerships/<uuid:uid>/archive/", partnerships.partnership_archive, name="partnership-archive"),
    path("partnerships/<uuid:uid>/restore/", partnerships.partnership_restore, name="partnership-restore"),
]
