"""Addresses of people and the installation."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from as2certs.accounts import views

urlpatterns = [
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/", views.account, name="account"),
    path("account/password/", views.PasswordChange.as_view(), name="password-change"),
    path("settings/", views.settings, name="settings"),
]
