"""Each kind of sabotage is named of its user alone, and repaired, while 64 connections charge."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from commands import CommandLine
from durable import STARTING_CREDITS
from faregate.adapters.redis import keys
from faregate.adapters.redis.values import Account
from faregate.bootstrap import open_stream
from live_load import GRANTED, Callers, draining
from operated import Ledger
from sabotage import APPLY, Sabotaged
from waiting import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

EXPECTED = {
    "unharmed": set(),
    "raised": {"live", "chain"},
    "lowered": {"live", "chain"},
    "profile": {"projection"},
    "lost record": {"gap", "live"},
    "deleted row": {"gap", "live", "projection"},
    "forged text": {"forged"},
    "forged amount": {"forged", "chain", "live", "projection"},
    "same number": {"forged", "fork", "gap"},
    "made by hand": {"forged", "live", "projection"},
}
BY_HAND = 50


def alone(operated: Ledger) -> dict[str, UUID]:
    """Users of whom each has a shard of its own, by what is done to them."""
    by_shard = {
        keys.shard_of(user.user_id, operated.settings.shard_count): user.user_id
        for user in operated.tables.users(100)
    }
    return dict(zip(EXPECTED, by_shard.values(), strict=False))


def change_rows(operated: Ledger, users: dict[str, UUID]) -> None:
    """Lay hands on Postgres."""
    ledger = operated.tables
    ledger.run("update public.profiles set credits = 99 where id = %s", users["profile"])
    ledger.run(
        "insert into public.credit_transactions (user_id, amount, type, description)"
        " values (%s, %s, 'add', 'by hand')",
        users["made by hand"],
        BY_HAND,
    )
    ledger.run("set session_replication_role = replica")
    for name, statement in {
        "deleted row": "delete from public.credit_transactions",
        "forged text": "update public.credit_transactions set description = 'forged'",
        "forged amount": "update public.credit_transactions set amount = amount - 5",
        "same number": "update public.credit_transactions set sequence = 3",
    }.items():
        ledger.run(f"{statement} where user_id = %s and sequence = 4", users[name])
    ledger.run("set session_replication_role = origin")


def alter(client: Any, operated: Ledger, user_id: UUID, amount: int) -> None:
    """Write to Redis past the scripts."""
    name = keys.account(user_id, operated.settings.shard_count)
    account = Account.unpack(client.get(name))
    client.set(name, replace(account, credits=account.credits + amount).pack())


def lose_newest(client: Any, operated: Ledger, user_id: UUID) -> None:
    """Delete the newest entry of the stream of a user."""
    count = operated.settings.shard_count
    name = keys.shards(count)[keys.shard_of(user_id, count)].stream
    client.xdel(name, client.xrevrange(name, count=1)[0][0])


def named(ledger: Sabotaged, users: dict[str, UUID]) -> dict[str, set[str]]:
    """The kinds of what is found, by what was done to the user; nothing is found of others."""
    found = defaultdict[str, set[str]](set)
    for finding in ledger.findings():
        found[finding["user_id"]].add(finding["kind"])
    assert set(found) <= {str(user_id) for user_id in users.values()}
    return {name: found[str(user_id)] for name, user_id in users.items()}


def wait_for_rows(operated: Ledger, users: Sequence[UUID], more: int = 2) -> None:
    """Wait until each user has so many rows more."""
    query = "select min(credits_sequence) as least from public.profiles where id = any(%s)"
    least = operated.tables.run(query, list(users))[0]["least"]
    wait_for(
        lambda: operated.tables.run(query, list(users))[0]["least"] >= least + more, "rows of all"
    )


def check_the_end(operated: Ledger, callers: Callers, given: dict[UUID, int]) -> None:
    """Each charge was paid once."""
    with callers.paused(), open_stream(operated.settings) as stream:
        wait_for(lambda: not stream.pending_count(), "all records are rows")
        for user_id in callers.users:
            due = STARTING_CREDITS + GRANTED - callers.allowed[user_id] + given.get(user_id, 0)
            assert operated.tables.profile(user_id)[0] == due


def test_whatever_is_done_to_users_is_named_and_repaired_under_load(
    operated: Ledger, command_line: CommandLine, client: Redis
) -> None:
    """At the end each charge was paid once, and each number agrees."""
    settings, ledger, users = operated.settings, Sabotaged(operated, command_line), alone(operated)
    servers = settings.redis_url, settings.postgres_url
    callers = Callers(*servers, list(users.values()), settings.shard_count)
    with callers.running():
        callers.wait_for_more(5)
        with callers.paused():
            lose_newest(client, operated, users["lost record"])
        callers.wait_for_more()
        with draining(*servers, settings.shard_count):
            wait_for_rows(operated, callers.users, more=6)
            change_rows(operated, users)
            with callers.paused():
                alter(client, operated, users["raised"], 100)
                alter(client, operated, users["lowered"], -100)
            callers.wait_for_more()
            wait_for_rows(operated, [users["raised"], users["lowered"]])
            assert named(ledger, users) == EXPECTED
            told = command_line.tell("repair", *APPLY)
            assert told["left"] == ledger.findings() == []
            callers.wait_for_more()
            assert command_line.tell("repair", *APPLY)["steps"] == []
            check_the_end(operated, callers, {users["made by hand"]: BY_HAND})
