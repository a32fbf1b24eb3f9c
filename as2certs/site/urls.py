"""URLs of the pages across all apps."""

from django.urls import path

from as2certs.site import views

urlpatterns = [
    path("", views.home, name="home"),
    path("search/", views.search, name="search"),
    path("calendar/", views.calendar, name="calendar"),
    path("rotations/<uuid:uid>/report/", views.rotation_report, name="rotation-report"),
    path("rotations/<uuid:uid>/report/draw/", views.rotation_report_draw, name="rotation-report-draw"),
    path("rotations/<uuid:uid>/report.pdf", views.rotation_report_pdf, name="rotation-report-pdf"),
    path("help/", views.help_page, name="help"),
    path("example/", views.load_demo, name="demo-load"),
]
