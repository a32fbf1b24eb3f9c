"""Users and a clock for the tests of the views."""

from tests.inventory import administrator, clock, operator, viewer

__all__ = ["administrator", "clock", "operator", "viewer"]
