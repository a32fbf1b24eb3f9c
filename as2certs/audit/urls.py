"""Addresses of the trail."""

from django.urls import path

from as2certs.audit import views

urlpatterns = [
    path("trail/", views.trail, name="audit-list"),
    path("trail/export", views.export, name="audit-export"),
]
