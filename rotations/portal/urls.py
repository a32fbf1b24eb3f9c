"""The addresses of a partner's page. The token is the whole of its right to see it."""

from django.urls import path

from rotations.portal import handing_in, views

urlpatterns = [
    path("p/<str:token>/", views.portal, name="portal"),
    path("p/<str:token>/certificate/", handing_in.portal_hand_in, name="portal-hand-in"),
    path(
        "p/<str:token>/certificate/confirm/", handing_in.portal_hand_in_confirm, name="portal-hand-in-confirm"
    ),
]
