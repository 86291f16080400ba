"""A Redis that went on from an older state of itself is corrected user by user, under load."""

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from uuid import UUID

import pytest
from redis import Redis

from faregate.cli.servers import Binaries
from faregate.domain.finding import DriftKind
from live_rig import RECORD, Rig, check_the_end, under_load
from own_redis import OwnRedis, own_redis
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


def from_an_older_copy(rig: Rig, server: OwnRedis, follow: Callable[[], None]) -> None:
    """Restart it with the file that it had written before."""
    kept = server.folder / "kept.rdb"
    with rig.callers.paused():
        rig.client.save()
        shutil.copy(server.folder / "dump.rdb", kept)
    follow()
    server.kill()
    shutil.copy(kept, server.folder / "dump.rdb")
    server.start()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def to_a_lagging_replica(rig: Rig, server: OwnRedis, follow: Callable[[], None]) -> None:
    """Promote a replica that the newest records did not reach, and let everybody go there."""
    port = rig.client.config_get("port")["port"]
    replica = OwnRedis(server.program, server.folder / "replica", server.options[2:])
    replica.folder.mkdir()
    replica.start()
    try:
        with Redis.from_url(replica.url) as other:
            other.replicaof("127.0.0.1", port)
            with rig.callers.paused():
                wait_for(
                    lambda: (
                        other.info("replication").get("master_link_status") == "up"
                        and other.info("replication")["slave_repl_offset"]
                        == rig.client.info("replication")["master_repl_offset"]
                    ),
                    "the replica has all",
                )
                # Nobody answers there.
                other.replicaof("127.0.0.1", free_port())
            follow()
            server.kill()
            other.replicaof("NO", "ONE")
        (server.folder / "s").unlink(missing_ok=True)
        (server.folder / "s").symlink_to(replica.folder / "s")
        server.process, replica.process = replica.process, None
    finally:
        if replica.process:
            replica.kill()


@pytest.mark.parametrize("fall_back", [from_an_older_copy, to_a_lagging_replica])
def test_a_redis_that_went_on_from_an_older_state_is_corrected_user_by_user(
    binaries: Binaries,
    database_url: str,
    fall_back: Callable[[Rig, OwnRedis, Callable[[], None]], None],
) -> None:
    """Without stopping anybody or emptying it: half by balances, half in favour of users."""
    options = "--port", str(free_port()), "--repl-diskless-sync-delay", "0"
    with own_redis(binaries.redis, *options) as server, under_load(server.url, database_url) as rig:
        known: dict[UUID, int] = {}
        idle, busy = rig.users[:2], rig.users[2:]

        def follow() -> None:
            known.update(rig.callers.allowed)
            rig.callers.wait_for_more(5)
            pause.enter_context(rig.callers.paused())
            rig.wait_until_drained()

        with ExitStack() as pause:
            fall_back(rig, server, follow)
            lost = {user: rig.callers.allowed[user] - known[user] for user in rig.users}
            check_the_measure(rig, lost, rig.users)
            assert {finding.user_id for finding in rig.findings()} == set(rig.users)
            for number, user_id in enumerate(idle):
                assert rig.align(user_id, RECORD if number % 2 else None).sequence_before
                assert rig.measure(user_id)[user_id].is_zero
        rig.callers.wait_for_more(3)
        check_the_measure(rig, lost, busy)
        assert {finding.user_id for finding in rig.findings()} == set(busy)
        for number, user_id in enumerate(busy):
            rig.align(user_id, RECORD if number % 2 else None)
        assert rig.amounts() == {}
        check_the_end(rig, {user: lost[user] for user in rig.users[1::2]})
        found = rig.audit.verify()
        # Who was charged before the correction has numbers twice for good, and nobody else.
        assert {f.user_id for f in found if f.kind is DriftKind.FORK} == set(busy)
        assert {f.kind for f in found} <= {DriftKind.FORK, DriftKind.CHAIN}


def check_the_measure(rig: Rig, lost: Mapping[UUID, int], users: Sequence[UUID]) -> None:
    """What Redis lost is what it gave back, and is named by number and id."""
    for user_id, drift in rig.measure(*users).items():
        assert drift.amount == -lost[user_id]
        assert len(drift.lost) == lost[user_id] == -sum(one.amount for one in drift.lost)
        numbers = [one.sequence for one in drift.lost]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert drift.sequence_min >= numbers[-1]
        rows = {row["id"]: row["sequence"] for row in rig.tables.rows(user_id)}
        assert all(rows[one.id] == one.sequence for one in drift.lost)
