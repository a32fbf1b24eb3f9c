"""The floor of the lists: the same 100 rows by a plain Django view and a plain template."""

from __future__ import annotations

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, Template
from django.urls import path

from as2certs.urls import urlpatterns as all_of_ours
from identities.models import IdentityCertificate

ROWS = 100

TEMPLATE = """<!doctype html><html><head><title>Certificates</title></head><body><table>
{% for c in rows %}<tr><td>{{ c.common_name }}</td><td>{{ c.identity.name }}</td><td>{{ c.sha256 }}</td>
<td>{{ c.key_type }} {{ c.key_size }}</td><td>{% for s in c.service.all %}{{ s.role }} {% endfor %}</td>
<td>{{ c.not_after|date:"j M Y H:i" }}</td></tr>{% endfor %}
</table></body></html>"""


@cache
def _template() -> Template:
    return Engine.get_default().from_string(TEMPLATE)


def plain(request: HttpRequest) -> HttpResponse:
    rows = IdentityCertificate.objects.light().select_related("identity").prefetch_related("service")
    return HttpResponse(_template().render(Context({"rows": rows.order_by("not_after", "id")[:ROWS]})))


urlpatterns = [path("plain/", plain), *all_of_ours]
