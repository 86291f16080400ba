"""A repair needs the rights of one user of Redis and one role of Postgres, whatever it repairs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from durable import archive, database
from faregate import CreditPolicy, PolicySet
from faregate.adapters.redis import access
from faregate.bootstrap import build_gate
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.domain.transaction import CreditTransactionId
from least_rights import STARTING_CREDITS, Restricted, restricted_ledger
from operated import WHO

pytestmark = [pytest.mark.redis, pytest.mark.postgres, pytest.mark.long]


@pytest.fixture
def ledger(binaries: Binaries, tmp_path: Path) -> Iterator[Restricted]:
    with (
        EmbeddedServers(durable=False, binaries=binaries) as servers,
        restricted_ledger(servers, tmp_path) as made,
    ):
        yield made


def repair(ledger: Restricted, *named: str) -> str:
    words = ("repair", *named, "--apply", *WHO)
    code, said = ledger.command(access.REPAIRER, "app_owner", *words)
    assert code == 0, said
    return said


async def test_a_repair_needs_one_user_and_one_role(ledger: Restricted) -> None:
    """For rows, live balances, refunds that are taken back, the schema, and an empty Redis."""
    policies = PolicySet(tiers={"default": CreditPolicy(starting_credits=STARTING_CREDITS)})
    gate = build_gate(ledger.settings(access.GATE, "app_api"), policies)
    await gate.start()
    await gate.aclose()
    url = ledger.servers.postgres_url
    with database(url) as tables, archive(url) as store:
        user = tables.user()
        user.credits = tables.profile(user.user_id)[0]
        deduct = user.record(-1)
        assert deduct.transaction
        refund_of = CreditTransactionId(deduct.transaction.id.value)
        refunds = [user.record(1, "refund", refund_of=refund_of) for _ in range(2)]
        store.store(7, [deduct, *refunds])
        assert "by an adjustment of -1 credits" in repair(ledger)
        tables.run("set session_replication_role = replica")
        tables.run("update public.credit_transactions set amount = -9 where type = 'deduct'")
        tables.run("set session_replication_role = origin")
        tables.run("update public.profiles set credits = 7 where id = %s", user.user_id)
        assert "(amount from -9 to -1)" in repair(ledger)
        tables.run("grant insert on public.credit_transactions to anon")
        assert "table public.credit_transactions" in repair(ledger)
    with Redis.from_url(ledger.servers.redis_url) as redis:
        redis.flushall()
    _, planned = ledger.command(access.REPAIRER, "app_owner", "repair")
    assert "begins a new epoch" in repair(ledger, *re.findall(r"^epoch-\w+", planned, re.M))
    assert ledger.refused() == []
