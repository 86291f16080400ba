"""What is sent for a file: the format is told by its first line."""

from pathlib import Path

import pytest

from faregate.cli.conversations import HEADER, Conversation, parse_row
from faregate.cli.load import PlannedRequest
from faregate.cli.plans import USERS_OF_CONVERSATIONS, Plan, plan_of
from faregate.cli.replay_api import converse_path
from faregate.domain.errors import InvalidArgumentError

AT = "2023-11-16 18:15:46.6805900"
ROWS = 1_000

UNUSABLE = {
    "blank": "",
    "header": HEADER,
    "too few": f"{AT},374",
    "too many": f"{AT},374,44,1",
    "negative": f"{AT},374,-44",
    "fraction": f"{AT},374.5,44",
    "other digits": f"{AT},\u0663,44",
    "no context, so nothing to hold": f"{AT},0,44",
    "estimate beyond all balances": f"{AT},{2**30},1",
    "cost beyond all balances": f"{AT},1,{2**31 - 1}",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A thousand conversations, no two of one cost."""
    path = tmp_path / "conversations.csv"
    rows = (f"{AT},{number + 1},{7}" for number in range(ROWS))
    path.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    return path


def plan(file: Path, *, kill_percent: int = 0, seed: int = 1) -> Plan:
    return plan_of(file, kill_percent=kill_percent, seed=seed)


def killed(plan: Plan) -> list[PlannedRequest]:
    return [request for request in plan.requests() if request.is_killed]


def test_rows_show_holds_and_payments() -> None:
    """Twice the context is held; context and generated tokens are paid."""
    row = parse_row(f"{AT},374,44")
    assert row == Conversation(context=374, generated=44)
    assert row is not None
    assert (row.estimate, row.actual) == (748, 418)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_row_without_costs_that_can_be_held_and_settled_is_not_usable(name: str) -> None:
    """Nothing is guessed."""
    assert parse_row(UNUSABLE[name]) is None


def test_users_take_turns_row_by_row(file: Path) -> None:
    """Each row is a request of its own, which need not wait for others of its user."""
    requests = list(plan(file).requests())
    assert requests[1].path == converse_path(4, 9, 0)
    assert [request.cost for request in requests] == [number + 8 for number in range(ROWS)]
    assert len({request.queue for request in requests}) == ROWS
    clients = [request.client for request in requests]
    assert len(set(clients)) == USERS_OF_CONVERSATIONS
    assert clients[:USERS_OF_CONVERSATIONS] * (ROWS // USERS_OF_CONVERSATIONS) == clients


def test_rows_that_are_not_usable_are_counted_and_take_no_turn(file: Path) -> None:
    """The header is none of them."""
    before = list(plan(file).requests())
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("\n", f"\n\n{AT},x,y\r\n", 1), encoding="utf-8")
    found = plan(file)
    assert (found.total, found.unusable_lines) == (ROWS, 2)
    assert list(found.requests()) == before


def test_a_seed_chooses_owners_and_chooses_them_again(file: Path) -> None:
    """Exactly so many of a hundred; others by another seed."""
    chosen = plan(file, kill_percent=3, seed=7)
    assert chosen.killed == len(killed(chosen)) == 30
    assert killed(chosen) == killed(plan(file, kill_percent=3, seed=7))
    assert killed(chosen) != killed(plan(file, kill_percent=3, seed=8))
    assert (killed(plan(file)), len(killed(plan(file, kill_percent=100)))) == ([], ROWS)


def test_a_log_has_no_owners(tmp_path: Path) -> None:
    """Its requests are charged at once, so that there is nothing between hold and settlement."""
    log = tmp_path / "access.log"
    log.write_text('::1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.0" 200 0\n', "utf-8")
    assert plan(log).total == 1
    with pytest.raises(InvalidArgumentError, match="no owners"):
        plan(log, kill_percent=1)


@pytest.mark.parametrize("content", [HEADER, f"{HEADER}\n\n", f"{AT},374,44\n", "A,B\n1,2\n"])
def test_a_table_without_a_header_or_without_conversations_is_refused(
    tmp_path: Path, content: str
) -> None:
    """By its first line, and by what follows."""
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=r"holds no (line|conversation)"):
        plan(path)
