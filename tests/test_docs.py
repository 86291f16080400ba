"""What README and docs show is run: Python as it stands, commands as far as their options."""

import json
import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import psycopg
import pytest

from faregate.cli import main
from waiting import WAIT_S_MAX

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: A block that shows a file of an example.
SHOWN = re.compile(r'^```(\w+) title="(examples/[^"]+)"\n(.*?)^```', re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def named(language: str) -> list[tuple[str, str]]:
    """The code blocks of all pages that need nothing of the reader's own, each with a name."""
    return [
        (f"{page.name} {number}", block)
        for page in PAGES
        for number, block in enumerate(blocks(page, language), start=1)
        if "myapp" not in block
    ]


SNIPPETS = named("python")
COMMANDS = sorted(
    {
        line
        for _, block in named("console")
        for line in re.findall(r"^\$ (faregate .*)$", block, re.M)
    }
)
QUERIES = named("sql")


@pytest.fixture
def ledger_environment(
    ledger_redis: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings that a reader has exported."""
    monkeypatch.setenv("FAREGATE_REDIS_URL", ledger_redis)
    monkeypatch.setenv("FAREGATE_POSTGRES_URL", database_url)


def test_there_is_something_to_run() -> None:
    """A pattern that finds nothing would make all of this pass."""
    assert len(PAGES) >= 4
    assert len(SNIPPETS) >= 3
    assert len(COMMANDS) >= 8
    assert QUERIES


@pytest.mark.usefixtures("ledger_environment")
@pytest.mark.parametrize(("name", "code"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_snippets_run(name: str, code: str, tmp_path: Path) -> None:
    """Each in a process of its own, as a reader would."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["-c", code]
    if "def test_" in code:
        (tmp_path / "test_shown.py").write_text(code, encoding="utf-8")
        command = ["-m", "pytest", "-q", str(tmp_path)]
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
    )
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_examples_are_shown_as_they_are() -> None:
    """A block with the name of a file is that file; FAREGATE_TEST_WRITE=1 writes it so."""
    shown = 0
    for page in PAGES:
        text = page.read_text("utf-8")
        whole = SHOWN.sub(
            lambda b: f'```{b[1]} title="{b[2]}"\n{(ROOT / b[2]).read_text("utf-8")}```', text
        )
        shown += len(SHOWN.findall(text))
        if os.environ.get("FAREGATE_TEST_WRITE") == "1":
            page.write_text(whole, encoding="utf-8")
        else:
            assert text == whole, page
    assert shown >= 3


def test_the_readmes_app_is_short() -> None:
    """At most sixteen lines; e2e/test_dev.py runs it."""
    (code,) = blocks(PAGES[0], "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 16


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_the_options_that_are_shown(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's own help names each of them."""
    _, *words = re.split(" [|&>]", command)[0].split()
    names = list(takewhile(lambda word: not word.startswith("--"), words))
    monkeypatch.setattr(sys, "argv", ["faregate", *names, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    for option in (word for word in words if word.startswith("--")):
        assert option in said


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
def test_queries_run(name: str, query: str, database_url: str) -> None:
    """On a fresh ledger they find nothing, and no error."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute(query).fetchall() == [], name


def test_the_webhook_in_sql_orders_once(database_url: str) -> None:
    """Though its event comes twice, and another event of the same payment."""
    trigger, event, refunds, *_ = blocks(ROOT / "docs/credits-by-sql.md", "sql")
    (user,) = re.findall(r'"client_reference_id": "(.*)"', event)
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into auth.users (id) values (%s)", [user])
        for statement in (trigger, event, event, event.replace("evt_1", "evt_2")):
            connection.execute(statement)
        connection.execute(refunds)
        for number, earlier, now in ((3, 0, 333), (3, 0, 333), (4, 333, 1_000)):
            payload = refund_event(user, earlier, now)
            connection.execute(
                "insert into myapp.stripe_events values (%s, 'charge.refunded', %s)"
                " on conflict (id) do nothing",
                [f"evt_{number}", payload],
            )
        query = "select user_id::text, amount, metadata ->> 'event' from faregate.orders order by 3"
        ordered = connection.execute(query).fetchall()
    assert ordered == [(user, 100, "evt_1"), (user, -33, "evt_3"), (user, -67, "evt_4")]


def refund_event(user: str, earlier: int, now: int) -> str:
    """An event of a refund of a charge that has bought 100 credits."""
    charge = {
        "id": "ch_1",
        "amount": 1_000,
        "amount_refunded": now,
        "metadata": {"user": user, "credits": "100"},
    }
    known = {"amount_refunded": earlier}
    return json.dumps({"data": {"object": charge, "previous_attributes": known}})
