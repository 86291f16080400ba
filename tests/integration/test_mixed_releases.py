"""Gates of two releases with the same layout share a ledger, as during a rolling upgrade."""

import asyncio
import os
import re
import subprocess
import sys

import pytest
from redis import Redis

from durable import STARTING_CREDITS, Database
from faregate import Gate, Settings
from faregate.bootstrap import open_audit, open_stream
from faregate.ops.reconcile import reconcile
from operated import Ledger
from waiting import WAIT_S_MAX

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

CHARGES = 40
#: A gate of another release: each of its scripts differs, and so has another name in Redis.
OTHER_RELEASE = """
import asyncio, sys
from uuid import UUID
from faregate import Settings, open_gate
from faregate.adapters.redis import scripts

make = scripts.make
scripts.make = lambda name, code: make(name, f"{code}\\n-- another release")


async def main(user_id, count):
    async with open_gate(Settings()) as gate:
        for _ in range(count):
            assert (await gate.charge(user_id)).allowed
        hold = await gate.hold(user_id, 5)
        await gate.settle(hold, 2)


asyncio.run(main(UUID(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.fixture
def ledger(ledger_redis: str, database_url: str, tables: Database) -> Ledger:
    return Ledger(Settings(redis_url=ledger_redis, postgres_url=database_url), tables)


async def charge_in_both(ledger: Ledger, gate: Gate) -> None:
    """Charge one user in this process and in one of another release, at once."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAREGATE_REDIS_URL": ledger.settings.redis_url,
        "FAREGATE_POSTGRES_URL": ledger.settings.postgres_url,
    }
    command = [sys.executable, "-c", OTHER_RELEASE, str(ledger.user), str(CHARGES)]
    other = asyncio.to_thread(
        subprocess.run, command, env=environment, check=True, timeout=WAIT_S_MAX
    )
    ended = asyncio.ensure_future(other)
    for _ in range(CHARGES):
        assert (await gate.charge(ledger.user)).allowed
    await ended


def libraries(client: Redis) -> set[str]:
    """The libraries of spends that Redis holds."""
    found = str(client.function_list("faregate_spend_*"))
    return set(re.findall(r"faregate_spend_[0-9a-f]{40}", found))


def delete_libraries(client: Redis) -> None:
    """Delete them, as an operator does after an upgrade."""
    for library in libraries(client):
        client.function_delete(library)


def test_gates_of_two_releases_charge_one_user_exactly(ledger: Ledger, client: Redis) -> None:
    """One worker makes rows of the records of both; and an old library may be deleted too early."""

    async def upgrade(gate: Gate) -> None:
        await gate.grant(ledger.user, 200)
        assert (await gate.charge(ledger.user)).allowed
        ours = libraries(client)
        await charge_in_both(ledger, gate)
        assert len(libraries(client) - ours) == 1
        delete_libraries(client)
        assert (await gate.charge(ledger.user)).allowed
        assert libraries(client) == ours

    delete_libraries(client)  # Those of other tests.
    ledger.ask(upgrade)
    left = STARTING_CREDITS + 200 - 2 * CHARGES - 2 - 2
    assert ledger.newest()["balance_after"] == left
    with open_stream(ledger.settings) as stream, open_audit(ledger.settings) as audit:
        assert reconcile(stream, stream, audit).findings == []
