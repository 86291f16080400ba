"""Each example is served by its command, keeps the same promises, and leaves an exact ledger."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from example_rig import EXAMPLES, Customer, ExampleLedger, served
from faregate.cli.servers import Binaries, EmbeddedServers
from servers import lone_ledger
from wire_client import Answer, Api, check_problem

#: Each example of the README's table, and the command that serves it.
SERVED = re.findall(
    r"^\| \[(\w+)\]\(.*?\) \|.*\| `(.*)` \|$", (EXAMPLES / "README.md").read_text("utf-8"), re.M
)
IDS = [f"{name} {command.split()[0]}" for name, command in SERVED]
GRANTED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A request, and what becomes of it."""

    path: str
    #: The JSON of a POST; a GET has none.
    sent: object = None
    has_key: bool = True
    status: int
    #: The code of a problem.
    code: str = ""
    #: What the RateLimit field says is left; None where it says nothing.
    left: int | None = None
    #: A part of the body.
    says: str = ""
    rows: tuple[tuple[str, int], ...] = ()


#: In this order, for a user with seven credits.
PROMISES = [
    Promise(path="/healthz", has_key=False, status=200, says="ok"),
    Promise(path="/reports/1", has_key=False, status=401, code="no_identity"),
    Promise(path="/reports/1", status=200, left=5, says="sales in January", rows=(("deduct", -2),)),
    Promise(path="/reports/2", status=404, left=5, rows=(("deduct", -2), ("refund", 2))),
    Promise(
        path="/answers",
        sent={"question": ""},
        status=500,
        rows=(("deduct", -5), ("refund", 5)),
    ),
    Promise(
        path="/answers",
        sent={"question": "how much is"},
        status=200,
        left=2,
        says='"MUCH"',
        rows=(("deduct", -5), ("refund", 2)),
    ),
    Promise(path="/answers", sent={"question": "what"}, status=402, code="out_of_credits"),
]
#: Besides, of some: OpenAPI has the refusals, and nobody pays for a request that is not valid.
FURTHER = {
    "fastapi": [
        Promise(path="/openapi.json", has_key=False, status=200, says='"402":{"description"'),
        Promise(path="/reports/one", status=422, left=2, rows=(("deduct", -2), ("refund", 2))),
        Promise(path="/answers", sent={}, status=422),
    ]
}


@pytest.fixture(scope="module")
def ledger(
    binaries: Binaries, servers: EmbeddedServers, template_database: str
) -> Iterator[ExampleLedger]:
    """One for all examples, each of which has a user of its own."""
    with lone_ledger(binaries, servers, template_database) as (_, settings):
        yield ExampleLedger(settings)


def check(promise: Promise, answer: Answer) -> None:
    """Compare an answer with what was promised."""
    assert answer.status == promise.status, (promise, answer)
    if promise.code:
        check_problem(answer, promise.status, promise.code)
    if promise.left is not None:
        assert answer.headers["ratelimit"] == f'"credits";r={promise.left}', promise
        assert answer.headers["ratelimit-policy"] == '"credits";q=3'
    assert promise.says.encode() in answer.body, promise
    is_free = not promise.rows and not promise.code
    assert not is_free or "ratelimit" not in answer.headers, promise


def ask(api: Api, promise: Promise, customer: Customer) -> Answer:
    """Send the request of a promise."""
    bearer = f"Bearer {customer.key}"
    send = partial(api.ask, authorization=bearer) if promise.has_key else api.ask
    if promise.sent is None:
        return send(promise.path)
    body = json.dumps(promise.sent).encode()
    return send(promise.path, None, "POST", body=body, content_type="application/json")


def test_the_table_has_every_framework() -> None:
    """A pattern that finds nothing would make all of this pass."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert {name for name, _ in SERVED} >= {"starlette", "fastapi", "litestar", "quart", "flask"}
    assert len([name for name, _ in SERVED if name == "django"]) == 2
    assert {name for name, _ in SERVED} <= folders


@pytest.mark.parametrize(("name", "command"), SERVED, ids=IDS)
def test_an_example_keeps_its_promises(
    name: str, command: str, ledger: ExampleLedger, tmp_path: Path
) -> None:
    """Each answer, each row, and the last use of the key, which is written when a server ends."""
    customer = ledger.sign_up(GRANTED)
    promises = [*PROMISES, *FURTHER.get(name, [])]
    log, secret = tmp_path / "log", "a secret of a test"
    with served(command, EXAMPLES / name, ledger.settings, log, DJANGO_SECRET_KEY=secret) as api:
        for promise in promises:
            check(promise, ask(api, promise, customer))
    expected = [("add", GRANTED), *(row for promise in promises for row in promise.rows)]
    assert ledger.rows(customer) == expected
    assert ledger.findings() == []
    assert ledger.is_use_noted(customer), log.read_text("utf-8")
