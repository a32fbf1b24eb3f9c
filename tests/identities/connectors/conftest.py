"""The files of an OpenAS2 server, for the tests of its connector."""

from tests.identities.connectors.openas2_files import make_server, make_staged, make_stores

__all__ = ["make_server", "make_staged", "make_stores"]
