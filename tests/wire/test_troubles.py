"""What is answered where Redis, the backlog or a setting says no."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from faregate import Settings
from faregate.bootstrap import open_stream
from faregate.cli.servers import Binaries, EmbeddedServers, EmbeddedValkey
from processes import stopped
from servers import lone_ledger
from waiting import wait_for
from wire_client import SERVERS, Api, api_on, check_problem

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture(scope="module")
def fragile(
    binaries: Binaries, servers: EmbeddedServers, template_database: str
) -> Iterator[tuple[EmbeddedValkey, Settings]]:
    """A Redis that is stopped, and a ledger that is filled, by these tests alone."""
    with lone_ledger(binaries, servers, template_database) as opened:
        yield opened


@contextmanager
def api_with(server: str, settings: Settings, place: Path, **variables: str) -> Iterator[Api]:
    given = {"FAREGATE_JOURNAL_DIR": str(place / "journal"), **variables}
    with api_on(server, settings, place / "api.log", **given) as api:
        yield api


@pytest.mark.parametrize("server", SERVERS)
def test_a_redis_that_hangs_closes_some_routes_and_not_others(
    server: str, fragile: tuple[EmbeddedValkey, Settings], tmp_path: Path
) -> None:
    """503 and when to come back, or served and written down; and decided as soon as it is back."""
    redis, settings = fragile
    user = uuid4()
    with api_with(server, settings, tmp_path, FAREGATE_DECISION_TIMEOUT_MS="50") as api:
        wait_for(lambda: api.ask("/anything", user).status == 200, "the user is seen")
        with stopped(redis.pid):
            closed, opened = api.ask("/anything", user), api.ask("/open", user)
        check_problem(closed, 503, "unavailable")
        assert int(closed.headers["retry-after"]) > 0
        assert opened.status == 200
        assert "ratelimit" not in opened.headers
        assert (tmp_path / "journal").is_dir()
        wait_for(lambda: api.ask("/anything", user).status == 200, "Redis decides again")


def test_a_backlog_refuses_with_a_reason_of_its_own(
    fragile: tuple[EmbeddedValkey, Settings], tmp_path: Path
) -> None:
    """Nothing is charged until the worker has caught up."""
    _, settings = fragile
    user = uuid4()
    with api_with("uvicorn", settings, tmp_path, FAREGATE_PENDING_MAX="1") as api:
        wait_for(lambda: api.ask("/anything", user).status == 503, "the stream is full")
        answer = api.ask("/anything", user)
        check_problem(answer, 503, "backlog")
        assert int(answer.headers["retry-after"]) > 0
        with open_stream(settings) as stream:
            before = stream.pending_count()
            assert api.ask("/anything", user).status == 503
            assert stream.pending_count() == before


def test_an_unknown_user_is_refused_or_provisioned(
    fragile: tuple[EmbeddedValkey, Settings], tmp_path: Path
) -> None:
    """By the setting, and never half."""
    with api_with("uvicorn", fragile[1], tmp_path, FAREGATE_PROVISION_USERS="false") as strict:
        check_problem(strict.ask("/anything", uuid4()), 403, "unknown_user")
