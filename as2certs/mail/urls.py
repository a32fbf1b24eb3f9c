"""URLs of the mail pages."""

from __future__ import annotations

from django.urls import path

from as2certs.mail import views

urlpatterns = [
    path("mail/", views.mail_list, name="mail-list"),
    path("mail/<uuid:uid>/", views.mail_detail, name="mail-detail"),
    path("mail/<uuid:uid>/html", views.mail_html, name="mail-html"),
    path("mail/<uuid:uid>/send-again", views.mail_send_again, name="mail-send-again"),
]
