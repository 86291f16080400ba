"""Reconciliations that are saved: one row a run, which the next one goes on from."""

import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from charging import Charger
from durable import Database
from faregate.adapters.postgres.audit import PostgresAudit
from faregate.adapters.postgres.reconciliations import PostgresReconciliations
from faregate.adapters.redis.stream import RedisStream
from faregate.cli.app import main
from faregate.ops.reconcile import reconcile
from redis_ledger import set_credits

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


async def test_the_command_saves_its_result_and_continues_from_there(
    charger: Charger,
    tables: Database,
    audit: PostgresAudit,
    client: Redis,
    ledger_redis: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One row a run, with counts and findings."""
    await charger.charge()
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)
    monkeypatch.setenv("FAREGATE_SHARD_COUNT", "1")

    def run(*words: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["faregate", "reconcile", "--json", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert caught.value.code == (1 if told["findings"] else 0)
        return told

    whole = run("--since-last")
    assert (whole["users"], whole["pending"], "since" in whole) == (10, 10, False)
    assert "since" in run("--since-last")
    set_credits(client, charger.users[2], 9)
    (finding,) = run()["findings"]
    assert (finding["kind"], finding["user_id"]) == ("live", str(charger.users[2]))
    assert (finding["sequence"], finding["expected"], finding["found"]) == (2, 2, 9)
    first, second, third = tables.run("select * from faregate.reconciliations order by id")
    assert (first["since"], first["user_count"], first["finding_counts"]) == (None, 10, {})
    assert second["since"] == first["next_since"] is not None
    assert (third["finding_counts"], third["findings"]) == ({"live": 1}, [finding])
    assert (third["drift_user_count"], third["pending_count"]) == (1, 10)
    assert third["next_since"] is None
    assert third["began_at"] <= third["ended_at"] <= datetime.now(UTC)


async def test_stored_findings_of_a_deleted_user_are_deleted(
    charger: Charger,
    tables: Database,
    stream: RedisStream,
    audit: PostgresAudit,
    client: Redis,
    database_url: str,
) -> None:
    """Nothing of it is left; the counts stay, and so do the findings of others."""
    gone, other = charger.users[2], charger.users[6]
    for user_id in (gone, other):
        set_credits(client, user_id, 9)
    with closing(PostgresReconciliations(database_url)) as reconciliations:
        reconciliations.save(reconcile(stream, stream, audit))
    tables.run("delete from auth.users where id = %s", gone)
    (run,) = tables.run("select finding_counts, findings from faregate.reconciliations")
    assert run["finding_counts"] == {"live": 2}
    assert [finding["user_id"] for finding in run["findings"]] == [str(other)]
