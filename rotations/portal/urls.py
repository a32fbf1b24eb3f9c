"""The addresses of a partner's page. The token is the whole of its right to see it."""

from django.urls import path

from rotations.portal import handing_in, saying, views

urlpatterns = [
    path("p/<str:token>/", views.portal, name="portal"),
    path("p/<str:token>/files/<slug:form>/", views.portal_download, name="portal-download"),
    path("p/<str:token>/change.ics", views.portal_calendar, name="portal-calendar"),
    path("p/<str:token>/installed/", saying.portal_installed, name="portal-installed"),
    path("p/<str:token>/time/", saying.portal_window, name="portal-window"),
    path("p/<str:token>/times/", saying.portal_slots, name="portal-slots"),
    path("p/<str:token>/other-time/", saying.portal_propose, name="portal-propose"),
    path("p/<str:token>/no/", saying.portal_decline, name="portal-decline"),
    path("p/<str:token>/keeps-both/", saying.portal_holds, name="portal-holds"),
    path("p/<str:token>/switched/", saying.portal_switched, name="portal-switched"),
    path("p/<str:token>/report/", saying.portal_report, name="portal-report"),
    path("p/<str:token>/colleague/", saying.portal_colleague, name="portal-colleague"),
    path("p/<str:token>/certificate/", handing_in.portal_hand_in, name="portal-hand-in"),
    path(
        "p/<str:token>/certificate/confirm/", handing_in.portal_hand_in_confirm, name="portal-hand-in-confirm"
    ),
]
