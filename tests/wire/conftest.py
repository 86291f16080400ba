"""One ledger for all tests on the wire, and an API on each server that is to work."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from faregate import Settings
from faregate.cli.servers import Binaries, EmbeddedServers
from servers import lone_ledger
from wire_client import SERVERS, Api, api_on


@pytest.fixture(scope="package")
def wire_settings(
    binaries: Binaries, servers: EmbeddedServers, template_database: str
) -> Iterator[Settings]:
    """A ledger that the tests on the wire share; each has users of its own."""
    with lone_ledger(binaries, servers, template_database) as (_, settings):
        yield settings


@pytest.fixture(scope="package", params=SERVERS)
def api(
    request: pytest.FixtureRequest,
    wire_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """The API on each of the servers."""
    place = tmp_path_factory.mktemp("wire")
    journal = {"FAREGATE_JOURNAL_DIR": str(place / "journal")}
    with api_on(request.param, wire_settings, place / "api.log", **journal) as running:
        yield running


@pytest.fixture
def user() -> UUID:
    """Somebody new."""
    return uuid4()
