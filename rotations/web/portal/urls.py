"""The URLs of a partner's pages. The token is the only credential."""

from django.urls import path

from rotations.web.portal import answer_views, page_views
from rotations.web.portal.submissions import views as submission_views

urlpatterns = [
    path("p/<str:token>/", page_views.portal, name="portal"),
    path("p/<str:token>/opened/", page_views.portal_opened, name="portal-opened"),
    path("p/<str:token>/files/<slug:form>/", page_views.portal_download, name="portal-download"),
    path("p/<str:token>/change.ics", page_views.portal_calendar, name="portal-calendar"),
    path("p/<str:token>/installed/", answer_views.portal_installed, name="portal-installed"),
    path("p/<str:token>/time/", answer_views.portal_window, name="portal-window"),
    path("p/<str:token>/times/", answer_views.portal_slots, name="portal-slots"),
    path("p/<str:token>/other-time/", answer_views.portal_propose, name="portal-propose"),
    path("p/<str:token>/no/", answer_views.portal_decline, name="portal-decline"),
    path("p/<str:token>/keeps-both/", answer_views.portal_capability, name="portal-capability"),
    path("p/<str:token>/switched/", answer_views.portal_switched, name="portal-switched"),
    path("p/<str:token>/report/", answer_views.portal_report, name="portal-report"),
    path("p/<str:token>/colleague/", answer_views.portal_colleague, name="portal-colleague"),
    path("p/<str:token>/certificate/", submission_views.portal_hand_in, name="portal-hand-in"),
    path(
        "p/<str:token>/certificate/confirm/",
        submission_views.portal_hand_in_confirm,
        name="portal-hand-in-confirm",
    ),
]
