"""One ledger for all tests on the wire, and an API on each server that is to work."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from faregate import Settings
from faregate.cli.servers import Binaries
from wire_client import SERVERS, Api, api_on, fresh_ledger


@pytest.fixture(scope="package")
def wire_settings(binaries: Binaries) -> Iterator[Settings]:
    """A ledger that the tests on the wire share; each has users of its own."""
    with fresh_ledger(binaries) as (_, settings):
        yield settings


@pytest.fixture(scope="package", params=SERVERS)
def api(
    request: pytest.FixtureRequest,
    wire_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """The API on each of the servers."""
    place = tmp_path_factory.mktemp("wire")
    patient = {
        "FAREGATE_DECISION_TIMEOUT_MS": "10000",
        "FAREGATE_JOURNAL_DIR": str(place / "journal"),
    }
    with api_on(request.param, wire_settings, place / "api.log", **patient) as running:
        yield running


@pytest.fixture
def user() -> UUID:
    """Somebody new."""
    return uuid4()
