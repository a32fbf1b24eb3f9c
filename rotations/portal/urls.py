"""The addresses of a partner's page. The token is the whole of its right to see it."""

from django.urls import path

from rotations.portal import views

urlpatterns = [
    path("p/<str:token>/", views.portal, name="portal"),
]
