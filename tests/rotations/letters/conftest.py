"""The fixtures of the exchange tests."""

from tests.rotations.exchange.conftest import company, fabrikam, northwind, rotation

__all__ = ["company", "fabrikam", "northwind", "rotation"]
