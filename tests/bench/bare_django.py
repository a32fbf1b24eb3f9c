"""A bare Django process: what `startproject` gives, one page, and nothing of ours."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.urls import path

APPS = ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")

settings.configure(
    SECRET_KEY="only for measuring",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[f"django.contrib.{name}" for name in APPS],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    STATIC_URL="static/",
)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Engine().from_string("<p>{{ word }}</p>").render(Context({"word": "bare"})))


urlpatterns = [path("login/", page)]
application = get_wsgi_application()
