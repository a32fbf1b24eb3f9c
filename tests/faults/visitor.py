"""A person at the pages of an installation, without a browser: logs in, and sends forms as a browser does."""

from __future__ import annotations

import re
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

from tests.people import PASSWORD
from tests.stack import Stack

MAKE = """
from tests.people import make_person
make_person({name!r}, is_superuser=True, is_staff=True)
"""


class Visitor:
    """Somebody who may do everything, stored first unless `is_stored`."""

    def __init__(self, site: Stack, name: str = "root", *, is_stored: bool = False) -> None:
        self.site = site
        if not is_stored:
            site.python(MAKE.format(name=name))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.post("/login/", username=name, password=PASSWORD)

    def get(self, path: str) -> str:
        with self._opener.open(self.site.url + path, timeout=20) as answer:
            return str(answer.read().decode())

    def post(self, path: str, *, form: str = "", **fields: str) -> str:
        """Send a form from the page where it stands, by default its own, and return the page that follows."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(form or path))
        assert token is not None
        data = urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        with self._opener.open(self.site.url + path, data, timeout=20) as answer:
            return str(answer.read().decode())
