"""RQ's queue is never in a cluster: each way to put it there is refused, and says what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faregate import Settings
from faregate.bootstrap import check_worker_rights
from faregate.cli.servers import Binaries
from faregate.config import read_settings
from faregate.domain.errors import ConfigurationError
from faregate_worker.check import problems
from own_redis import own_redis
from wire_client import free_port
from worker_process import System

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.cluster]

NEVER = "RQ's queue cannot live in a Redis Cluster; name a server outside of it"
CLUSTER = "redis+cluster://:secret@127.0.0.1:1,127.0.0.1:2"


@pytest.fixture
def node(binaries: Binaries) -> Iterator[str]:
    """The plain URL of a node of a cluster."""
    port = free_port()
    options = ("--port", f"{port}", "--bind", "127.0.0.1", "--cluster-enabled", "yes")
    with own_redis(binaries.redis, *options, "--cluster-port", f"{free_port()}"):
        yield f"redis://127.0.0.1:{port}"


def test_the_url_of_a_cluster_is_refused_when_settings_are_read() -> None:
    with pytest.raises(ConfigurationError, match=f"^FAREGATE_QUEUE_URL: {NEVER}") as caught:
        read_settings(queue_url=CLUSTER)
    assert "secret" not in str(caught.value)


def test_beside_a_cluster_the_queue_needs_a_url_of_its_own() -> None:
    """A gate does without a queue; a worker does not start."""
    settings = Settings(redis_url=CLUSTER)
    with pytest.raises(ConfigurationError, match=f"^FAREGATE_QUEUE_URL is not set: {NEVER}"):
        check_worker_rights(settings)
    with pytest.raises(ConfigurationError, match=f"^FAREGATE_QUEUE_URL is not set: {NEVER}"):
        problems(settings)
    elsewhere = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/queue"
    assert settings.model_copy(update={"queue_url": elsewhere}).rq_url == elsewhere


def test_a_node_of_a_cluster_behind_a_plain_url_is_noticed_by_asking_it(
    node: str, ledger_redis: str, database_url: str, tmp_path: Path
) -> None:
    """By a worker when it starts, and by its health check: exit status 2, and one line."""
    system = System(
        redis_url=ledger_redis,
        database_url=database_url,
        log=tmp_path / "worker.log",
        other_queue_url=node,
    )
    with system.worker() as worker:
        assert worker.wait() == 2
    assert system.check() == 2
    said = system.log.read_text(encoding="utf-8")
    refused = f"worker misconfigured: FAREGATE_QUEUE_URL names a node of a cluster: {NEVER}"
    assert said.count(refused) == 2
    assert "Traceback" not in said
