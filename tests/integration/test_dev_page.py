"""The page of `faregate dev`: what is charged, by the numbers of the servers."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from redis import Redis
from starlette.testclient import TestClient

from durable import Database
from faregate import Settings
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.cli.dev.demo_user import DEMO_USER, sign_in
from faregate.cli.dev.folder import DevFolder
from faregate.cli.dev.page import ROWS_MAX, USERS_MAX, page_app, state
from operated import Ledger


@pytest.fixture
def settings(ledger_redis: str, database_url: str) -> Settings:
    """Where the servers are."""
    return Settings(redis_url=ledger_redis, postgres_url=database_url, provision_users=True)


@pytest.fixture
def ledger(settings: Settings, tables: Database, tmp_path: Path) -> Ledger:
    """A ledger whose demo user is signed in."""
    sign_in(settings, DevFolder(tmp_path))
    return Ledger(settings, tables)


def charge(ledger: Ledger, user: Any) -> None:
    """Charge a user one credit."""
    ledger.ask(lambda gate: gate.charge(user))


def test_it_shows_the_user_its_rows_and_pending_records(ledger: Ledger) -> None:
    """A charge is pending, then a row; the durable balance stands in until Redis knows the user."""
    (demo,) = (user for user in state(ledger.settings)["users"] if user["is_demo"])
    assert demo == {"user_id": DEMO_USER, "is_demo": True, "credits": 3, "held": 0}
    charge(ledger, DEMO_USER)
    told = state(ledger.settings)
    assert (told["users"][0]["credits"], told["pending"], told["drift"]) == (2, 1, [])
    ledger.drain()
    told = state(ledger.settings)
    newest = told["rows"][0]
    assert (newest["user_id"], newest["type"], newest["amount"]) == (DEMO_USER, "deduct", -1)
    assert (told["pending"], told["dead_letters"], told["drift"]) == (0, 0, [])


def test_it_shows_so_many_rows_and_users_and_no_more(ledger: Ledger) -> None:
    """The newest, and always the demo user."""
    others = [uuid4() for _ in range(ROWS_MAX + 1)]
    for user in others:
        charge(ledger, user)
    ledger.drain()
    told = state(ledger.settings)
    assert [row["user_id"] for row in told["rows"]] == [
        row["user_id"] for row in sorted(told["rows"], key=lambda row: row["timestamp"])
    ][::-1]
    assert len(told["rows"]) == ROWS_MAX
    assert len(told["users"]) == USERS_MAX
    assert told["users"][0]["is_demo"]


def test_a_balance_that_was_altered_is_a_drift(ledger: Ledger) -> None:
    """It is named as `faregate reconcile` names it."""
    charge(ledger, DEMO_USER)
    name = keys.account(DEMO_USER, ledger.settings.shard_count)
    with Redis.from_url(ledger.settings.redis_url) as client:
        packed = client.get(name)
        assert isinstance(packed, bytes)
        account = Account.unpack(packed)
        client.set(name, replace(account, credits=account.credits + 1).pack())
    (detail,) = state(ledger.settings)["drift"]
    assert str(DEMO_USER) in detail


def test_a_token_is_cached_until_it_expires(ledger: Ledger, tmp_path: Path) -> None:
    """It is the same in the next run, and another one once the data is gone."""
    folder = DevFolder(tmp_path)
    token = folder.token
    assert sign_in(ledger.settings, folder) == token
    with psycopg.connect(ledger.settings.postgres_url, autocommit=True) as connection:
        connection.execute("delete from faregate.api_keys")
    assert sign_in(ledger.settings, folder) == folder.token != token


def test_it_only_reads_and_only_for_this_machine(ledger: Ledger) -> None:
    """A name that leads here is not this machine; nothing elsewhere is loaded or asked."""
    with TestClient(page_app(ledger.settings), base_url="http://127.0.0.1:8001") as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "//" not in page.text.replace("// ", "")
        assert client.get("/state").json()["pending"] == 0
        assert client.get("/state", headers={"Host": "evil.test"}).status_code == 400
        assert client.post("/state").status_code == 405


def test_servers_that_do_not_answer_are_reported(ledger: Ledger) -> None:
    """By a sentence, as the next look may find them again."""
    away = ledger.settings.model_copy(update={"redis_url": "unix:///nowhere/valkey.sock"})
    answer = TestClient(page_app(away), "http://localhost").get("/state")
    assert answer.status_code == 503
    assert list(answer.json()) == ["problem"]
