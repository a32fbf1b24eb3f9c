"""Error reports that show where an exception was raised, but no values."""

from __future__ import annotations

import re
from types import FrameType
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class LocationsOnlyReporterFilter(SafeExceptionReporterFilter):
    """Hide all form data and all local variables: any of them may be a key, a password or a file.

    Marking only sensitive variables would have to be complete for every function that handles a key, even in libraries.
    With DEBUG, variables are shown unless they are marked.
    """

    # URLs of servers contain passwords.
    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|(REDIS|BROKER|DATABASE|EMAIL)_URL",
        re.IGNORECASE,
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> Any:
        if request is None:
            return {}
        parameters = request.POST.copy()
        for name in parameters:
            parameters[name] = self.cleansed_substitute
        return parameters

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> Any:
        if settings.DEBUG:
            return super().get_traceback_frame_variables(request, tb_frame)
        return [(name, self.cleansed_substitute) for name in tb_frame.f_locals]
