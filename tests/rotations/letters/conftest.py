"""The company of the exchange's tests."""

from tests.rotations.exchange.conftest import company, fabrikam, northwind, rotation

__all__ = ["company", "fabrikam", "northwind", "rotation"]
