"""The commands of an operator on real servers: numbers, rows, refusals, and JSON by its schema."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from commands import CommandLine
from durable import STARTING_CREDITS
from operated import WHO, Ledger

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

STRANGER = uuid4()
#: An id that nobody has. Named tests are the same in every process.
NOTHING = "0199f5d2-c6a0-7c1e-8f0a-3b5d7e9f1a2b"


def test_a_balance_is_the_live_one_where_there_is_one(
    operated: Ledger, command_line: CommandLine
) -> None:
    """Of a user that Redis has not met it is the durable one."""
    told = command_line.tell("balance", operated.user)
    assert (told["credits"], told["is_live"]) == (STARTING_CREDITS, False)
    operated.hold(2)
    told = command_line.tell("balance", operated.user)
    assert (told["credits"], told["held"], told["is_live"]) == (1, 2, True)


def test_history_goes_back_page_by_page(operated: Ledger, command_line: CommandLine) -> None:
    """The newest first, each row once."""
    for _ in range(3):
        operated.charge()
    operated.drain()
    pages: list[list[dict[str, Any]]] = []
    options: list[str] = []
    while True:
        told = command_line.tell("history", operated.user, "--count", 2, *options)
        pages.append(told["transactions"])
        if told["next_cursor"] is None:
            break
        options = ["--before", told["next_cursor"]]
    assert [[row["balance_after"] for row in page] for page in pages] == [[0, 1], [2, 3]]


def test_usage_says_what_is_unknown_without_the_policies_of_the_application(
    operated: Ledger, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them it is that of the usage API."""
    told = command_line.tell("usage", operated.user)
    assert (told["remaining"], told["policy"], told["limit"]) == (STARTING_CREDITS, None, None)
    (tmp_path / "gates_of_usage.py").write_text(
        "from faregate import Allowance, CreditPolicy, Period, PeriodKind, Settings, build_gate\n"
        "allowance = Allowance(amount=50, period=Period(kind=PeriodKind.MONTH))\n"
        "policy = CreditPolicy(name='monthly', allowance=allowance)\n"
        "def gate():\n"
        "    return build_gate(Settings(), policy)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    told = command_line.tell("usage", operated.user, "--gate", "gates_of_usage:gate")
    assert (told["policy"], told["limit"], told["is_unlimited"]) == ("monthly", 50, False)


def test_a_grant_is_made_once_and_its_row_says_who_and_why(
    operated: Ledger, command_line: CommandLine
) -> None:
    """The new balance is printed; a key that comes again with another amount is wrong use."""
    words = ("grant", operated.user, 10, *WHO, "--idempotency-key", "ticket 7")
    told = command_line.tell(*words)
    assert (told["credits"], told["amount"], told["repeated"]) == (13, 10, False)
    assert command_line.tell(*words)["repeated"]
    assert "13" in command_line.run(*words).out
    row = operated.newest()
    assert (row["type"], row["description"], row["metadata"]) == (
        "add",
        "ticket 7",
        {"actor": "ann"},
    )
    other = ("grant", operated.user, 11, *WHO, "--idempotency-key", "ticket 7")
    assert command_line.run(*other).code == 2


def test_an_adjustment_goes_below_zero_only_if_allowed(
    operated: Ledger, command_line: CommandLine
) -> None:
    """A negative amount is no option; nothing is changed by one that is refused."""
    refused = command_line.run("adjust", operated.user, -4, *WHO)
    assert (refused.code, refused.out) == (2, "")
    assert "--allow-negative" in refused.err
    assert command_line.tell("adjust", operated.user, -2, *WHO)["credits"] == 1
    assert command_line.tell("adjust", operated.user, -2, *WHO, "--allow-negative")["credits"] == -1
    row = operated.newest()
    assert (row["type"], row["description"]) == ("admin_adjustment", "ticket 7")
    assert row["metadata"] == {"actor": "ann"}


@pytest.mark.parametrize("is_row", [True, False], ids=["row", "pending"])
def test_a_charge_is_given_back_once_or_in_parts(
    operated: Ledger, command_line: CommandLine, *, is_row: bool
) -> None:
    """No more than it took; each part has a key of its own."""
    operated.ask(lambda gate: gate.grant(operated.user, 10))
    charge = str(operated.ask(lambda gate: gate.charge(operated.user, cost=10)).transaction_id)
    if is_row:
        operated.drain()
    part = ("refund", operated.user, charge, *WHO, "--amount", 4)
    assert command_line.run(*part).code == 2
    first = command_line.tell(*part, "--idempotency-key", "a")
    assert (first["credits"], first["amount"]) == (7, 4)
    assert command_line.tell(*part, "--idempotency-key", "a")["repeated"]
    assert command_line.tell("refund", operated.user, charge, *WHO)["credits"] == 13
    assert command_line.tell("refund", operated.user, charge, *WHO)["repeated"]
    more = command_line.run(*part, "--idempotency-key", "b")
    assert (more.code, "the rest of the charge" in more.err) == (2, True)
    assert operated.newest()["metadata"] == {"actor": "ann"}


def test_open_holds_are_listed_and_released(operated: Ledger, command_line: CommandLine) -> None:
    """Those first that expire first, as many as asked for; what was settled stays."""
    later, sooner = operated.hold(1, 90_000), operated.hold(2, 30_000)
    listed = command_line.tell("holds", "list", "--user", operated.user)
    assert [(hold["id"], hold["amount"]) for hold in listed] == [(sooner, 2), (later, 1)]
    assert [hold["id"] for hold in command_line.tell("holds", "list", "--count", 1)] == [sooner]
    neighbour = UUID(int=operated.user.int ^ 1 << 64)
    assert command_line.tell("holds", "list", "--user", neighbour) == []
    words = ("holds", "release", operated.user, sooner, *WHO)
    assert command_line.tell(*words)["credits"] == 2
    assert command_line.tell(*words)["repeated"]
    assert command_line.run("holds", "release", operated.user, uuid4(), *WHO).code == 2
    assert len(command_line.tell("holds", "list")) == 1
    row = operated.newest()
    assert (row["type"], row["amount"], row["description"]) == ("refund", 2, "ticket 7")
    assert row["metadata"] == {"actor": "ann"}


@pytest.mark.parametrize(
    "words",
    [
        ("balance",),
        ("usage",),
        ("users", "show"),
        ("users", "export"),
        ("grant", "10", *WHO),
        ("adjust", "10", *WHO),
        ("refund", NOTHING, *WHO),
        ("holds", "release", NOTHING, *WHO),
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.usefixtures("operated")
def test_an_unknown_user_is_wrong_use(command_line: CommandLine, words: tuple[str, ...]) -> None:
    """Exit 2: nothing is broken, and nothing was printed or made."""
    names = [word for word in words if word in {"users", "show", "export", "holds", "release"}]
    names = names or [words[0]]
    said = command_line.run(*names, STRANGER, *words[len(names) :])
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("faregate: ")


@pytest.mark.parametrize("lost", ["FAREGATE_REDIS_URL", "FAREGATE_POSTGRES_URL"])
@pytest.mark.parametrize(
    "words", [("balance",), ("users", "show"), ("grant", "10", *WHO)], ids=lambda words: words[0]
)
def test_a_server_that_is_away_is_broken(
    operated: Ledger,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    *,
    words: tuple[str, ...],
    lost: str,
) -> None:
    """Exit 3, in one line."""
    away = {"FAREGATE_REDIS_URL": "unix:///nowhere/redis", "FAREGATE_POSTGRES_URL": "host=/nowhere"}
    monkeypatch.setenv(lost, away[lost])
    names = words[:2] if words[0] == "users" else words[:1]
    said = command_line.run(*names, operated.user, *words[len(names) :])
    assert (said.code, said.out) == (3, "")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--actor", "--reason"])
def test_actor_and_reason_are_not_blank(
    operated: Ledger, command_line: CommandLine, option: str
) -> None:
    """Else a row would say nothing of them."""
    words = {"--actor": "ann", "--reason": "why"} | {option: " "}
    given = [word for pair in words.items() for word in pair]
    for command in (("grant", operated.user, 1), ("adjust", operated.user, 1)):
        assert command_line.run(*command, *given).code == 2
    assert command_line.tell("balance", operated.user)["credits"] == STARTING_CREDITS


def test_results_of_exact_and_inexact_ledgers_match_their_schema(
    operated: Ledger, command_line: CommandLine
) -> None:
    """The commands that there were before, too."""
    operated.charge()
    assert command_line.tell("reconcile")["findings"] == []
    assert command_line.tell("verify")["findings"] == []
    assert command_line.tell("migrate") == {"applied": []}
    told = command_line.tell("migrate", "--status")
    assert {row["state"] for row in told["migrations"]} == {"applied"}
    assert told["obstacles"] == []
    assert set(command_line.tell("access")) == {"sql", "redis", "sentinel"}
    key = command_line.tell("keys", "create", "--user", operated.user, "--name", "ci")
    assert command_line.tell("keys", "list")[0]["id"] == key["id"]
    assert command_line.tell("keys", "revoke", key["id"])["revoked_at"]
    with psycopg.connect(operated.settings.postgres_url, autocommit=True) as connection:
        connection.execute("alter table public.credit_transactions disable row level security")
    assert command_line.tell("verify", code=1)["findings"]
    assert command_line.run("verify").out.splitlines()[-1] == "not exact"
