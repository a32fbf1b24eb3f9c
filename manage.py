#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    """Run a command; settings that can't be read end in one line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        assert settings.INSTALLED_APPS  # reads the settings
    except ImproperlyConfigured as error:
        sys.exit(f"as2certs: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
