"""What a report of a fault may show: where it happened, and never what was handled there."""

from __future__ import annotations

import re
from types import FrameType
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class LocationsOnlyReporterFilter(SafeExceptionReporterFilter):
    """Hide every value that was sent and every variable: any of them may be a key, a password or a file.

    Marking the sensitive ones would have to be right in each function that a key passes through, those of libraries
    too. With DEBUG, for development, variables are shown that are not marked.
    """

    # Addresses of servers hold passwords too.
    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|(REDIS|BROKER|DATABASE|EMAIL)_URL",
        re.IGNORECASE,
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        if request is None:
            return {}
        sent = request.POST.copy()
        for name in sent:
            sent[name] = self.cleansed_substitute
        return sent

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
        if settings.DEBUG:
            return super().get_traceback_frame_variables(request, tb_frame)
        return [(name, self.cleansed_substitute) for name in tb_frame.f_locals]
