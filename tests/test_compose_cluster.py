"""The profile `cluster` of docker-compose.yml: its nodes become a cluster that serves the API."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from compose_rig import NODES, SERVICES, options_of, valkey_of
from faregate import Settings
from faregate.adapters.redis.topology import read_topology
from faregate.cli.servers import Binaries
from faregate.domain.redis_url import RedisUrl
from moved import assert_exact, charge_all
from operated import drain
from waiting import wait_for
from wire_client import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.long]

REDIS_CLI = Path("/usr/bin/redis-cli")


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_kept_and_accepts_no_write_that_it_alone_has(name: str) -> None:
    """It has a place of its own, by which others find it, and a dead one stops itself alone."""
    options = options_of(name)
    assert options["--cluster-enabled"] == "yes"
    assert options["--appendonly"] == "yes"
    assert options["--cluster-require-full-coverage"] == "no"
    assert options["--min-replicas-to-write"] == "1"
    assert f"{name}:/data" in SERVICES[name]["volumes"]
    assert addresses_of_nodes().count(address_of(name)) == 1


def test_the_creation_of_the_cluster_waits_for_each_node_and_names_it() -> None:
    creation = SERVICES["cluster-create"]
    assert set(creation["depends_on"]) == set(NODES)
    for address in addresses_of_nodes():
        assert f"{address}:6379" in creation["command"][-1]


def address_of(name: str) -> str:
    return str(SERVICES[name]["networks"]["default"]["ipv4_address"])


def addresses_of_nodes() -> list[str]:
    return [address_of(name) for name in NODES]


@pytest.fixture
def nodes(binaries: Binaries) -> Iterator[Mapping[str, str]]:
    """Servers with the options of the nodes: the address of each, by that of its container."""
    with ExitStack() as stack:
        yield {
            f"{address_of(name)}:6379": stack.enter_context(
                valkey_of(name, binaries.redis, "--cluster-port", f"{free_port()}")
            )
            for name in NODES
        }


def create(nodes: Mapping[str, str]) -> str:
    """Run the command that creates the cluster; return what it said."""
    if not REDIS_CLI.exists():
        pytest.skip("the creation needs Debian's redis-tools: the wheels have no redis-cli")
    shell, option, script = SERVICES["cluster-create"]["command"]
    for among_containers, address in nodes.items():
        script = script.replace(among_containers, address)
    script = script.replace("valkey-cli", str(REDIS_CLI)).replace("$$", "$")
    done = subprocess.run([shell, option, script], capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_nodes_become_a_cluster_once(nodes: Mapping[str, str]) -> None:
    """Of three primaries, each with a replica; a second run of the command changes nothing."""
    assert "All 16384 slots covered" in create(nodes)
    url = RedisUrl.parse(f"redis+cluster://{','.join(nodes.values())}")
    wait_for(lambda: replicas_of(url) == [1, 1, 1], "each node knows each replica")
    assert "slots covered" not in create(nodes)
    wait_for(lambda: replicas_of(url) == [1, 1, 1], "each node still knows each replica")


def test_a_ledger_lives_on_the_nodes(nodes: Mapping[str, str], database_url: str) -> None:
    """With all options of the file: charges are taken by each primary, and become rows."""
    create(nodes)
    settings = Settings(
        redis_url=f"redis+cluster://{','.join(nodes.values())}",
        postgres_url=database_url,
        provision_users=True,
        decision_timeout_ms=10_000,
    )
    charge_all(settings, [uuid4() for _ in range(32)], 2)
    drain(settings)
    assert_exact(settings)


def replicas_of(url: RedisUrl) -> list[int]:
    """How many replicas each primary has."""
    return [len(replicas) for replicas in read_topology(url).replicas.values()]
