"""Requests on which there is no decision: who is told what, and what the log says of it."""

import json
from typing import Any
from uuid import UUID

import pytest
from starlette.types import Receive, Scope, Send

from asgi_client import USER, World, answers, call, http_scope
from faregate import CreditPolicy, PolicySet
from faregate.asgi import Caller, FaregateMiddleware, ProblemOptions, Rule
from faregate.domain.attempt import Event
from faregate.domain.errors import (
    ArchiveUnavailableError,
    ConfigurationError,
    FaregateError,
    IdentityUnavailableError,
    InvalidArgumentError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.gate import Gate
from waiting import WAIT_S_MAX

TIERS = PolicySet(
    tiers={"free": CreditPolicy(), "paid": CreditPolicy(name="paid")}, default_tier="free"
)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the app must not run")


async def test_a_full_stream_is_a_503_that_is_not_charged() -> None:
    """Too many records wait for Postgres, so nothing is served until some are rows."""
    world = World()
    middleware = world.around(answers(200))
    assert (await call(middleware)).status == 200
    world.ledger.records.pending_max = 0
    answer = await call(middleware)
    assert answer.status == 503
    assert answer.header(b"retry-after") == b"5"
    assert json.loads(answer.body)["code"] == "backlog"
    assert await world.credits() == 2


@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (LedgerUnavailableError, "unavailable", b"1"),
        (LedgerUninitialisedError, "rebuilding", b"5"),
        (ArchiveUnavailableError, "unavailable", b"1"),
    ],
)
async def test_without_a_decision_the_app_does_not_run(
    error: type[FaregateError], code: str, retry_after: bytes
) -> None:
    """The gate fails closed, with a 503 that says when to come back and shows no internals."""
    world = World()
    world.ledger.script.append(error("10.0.0.7 is away"))
    answer = await call(world.around(never))
    assert answer.status == 503
    assert answer.header(b"retry-after") == retry_after
    assert json.loads(answer.body)["code"] == code
    assert b"10.0.0.7" not in answer.body
    assert answer.header(b"ratelimit") is None


async def test_a_ledger_that_does_not_fit_the_settings_is_a_503_and_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing but an operator helps then, who reads what to do; the client gets a response."""
    world = World()
    world.ledger.script.append(ConfigurationError("run `faregate migrate`"))
    answer = await call(world.around(never))
    assert (answer.error, answer.status) == (None, 503)
    assert json.loads(answer.body)["code"] == "unavailable"
    assert b"migrate" not in answer.body
    (entry,) = [item for item in caplog.records if item.name.startswith("faregate")]
    assert entry.levelname == "ERROR"
    expected = "all requests refused, configuration error: run `faregate migrate`"
    assert entry.getMessage() == expected


async def test_a_503_of_unknown_outcome_is_being_voided() -> None:
    """The charge may have happened after all, so the gate goes on to take it back."""
    world = World()
    assert (await call(world.around(answers(200)))).status == 200
    world.ledger.lose(Event.TIMED_OUT)
    assert (await call(world.around(never))).status == 503
    assert await world.gate.retries.join(WAIT_S_MAX)
    assert world.amounts == [-1, -1, 1]


async def test_a_mistake_of_the_programmer_is_not_hidden() -> None:
    """An ill-formed argument is no outage, and reaches the server as an error."""
    world = World()
    world.ledger.script.append(InvalidArgumentError("ill-formed"))
    assert isinstance((await call(world.around(never))).error, InvalidArgumentError)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level and the text of what the middleware has logged."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("faregate.asgi")
    ]


async def test_an_outage_is_not_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    """However many requests it refuses within a second."""
    world = World()
    world.ledger.is_down = True
    middleware = world.around(never)
    assert {(await call(middleware)).status for _ in range(5)} == {503}
    expected = "request refused, ledger unavailable: Redis is down"
    assert lines(caplog) == [("WARNING", expected)]


async def test_an_identity_outage_is_not_logged_for_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a kind of its own, beside the outage of Redis."""

    def identify(scope: Scope) -> UUID:
        if scope["path"] == "/":
            raise IdentityUnavailableError("away")
        return USER

    world = World()
    world.ledger.is_down = True
    middleware = world.around(never, identify=identify)
    codes = [
        json.loads((await call(middleware, http_scope(path=path))).body)["code"]
        for path in ("/", "/", "/known")
    ]
    assert codes == ["identity_unavailable", "identity_unavailable", "unavailable"]
    assert [level for level, _ in lines(caplog)] == ["WARNING", "WARNING"]


async def test_an_overload_is_refused_with_a_shared_answer_and_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503, when to come back, and nothing of the user's credits, which were not looked at."""
    world = World()
    assert (await call(world.around(answers(200)))).status == 200
    world.ledger.lose(Event.SHED, Event.SHED, decided=False)
    middleware = world.around(never)
    first, second = await call(middleware), await call(middleware)
    for answer in (first, second):
        assert answer.status == 503
        assert answer.header(b"retry-after") in {b"1", b"2"}
        assert answer.header(b"ratelimit") is None
        body = json.loads(answer.body)
        assert body["code"] == "overloaded"
        assert str(body["retry_after"]).encode() == answer.header(b"retry-after")
    assert lines(caplog) == []
    assert world.gate.health().shed == 2
    assert world.amounts == [-1]


async def test_an_overload_may_have_another_status() -> None:
    """As any other problem."""
    world = World()
    await call(world.around(answers(200)))
    world.ledger.lose(Event.SHED, decided=False)
    problems = ProblemOptions(statuses={"overloaded": 429})
    assert (await call(world.around(never, problems=problems))).status == 429


async def test_a_tier_that_does_not_exist_is_the_fault_of_one_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log does not say that others are refused, and they are not."""
    world = World()
    world.gate = Gate(world.ledger, world.store, TIERS)

    def identify(scope: Scope) -> Caller:
        return Caller(user_id=USER, tier=scope["path"][1:])

    middleware = world.around(answers(200), identify=identify)
    statuses = [
        (await call(middleware, http_scope(path=path))).status
        for path in ("/gold", "/paid", "/free")
    ]
    assert statuses == [503, 200, 200]
    ((level, message),) = lines(caplog)
    assert level == "ERROR"
    assert message.startswith("request refused, configuration error: no policy for")
    assert "'gold'; known: free, paid" in message


async def test_a_tier_that_is_no_name_at_all_is_refused_and_logged_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A resolver may return anything."""
    world = World()

    async def tier_of(_: UUID) -> Any:
        return ["gold"]

    world.gate = Gate(world.ledger, world.store, TIERS, tier_of=tier_of)
    assert (await call(world.around(never))).status == 503
    ((_, message),) = lines(caplog)
    assert "no policy for the tier ['gold']; known: free, paid" in message


def test_a_rule_whose_tier_does_not_exist_is_refused_at_the_start() -> None:
    """And names its path."""
    with pytest.raises(
        ConfigurationError, match="the rule for '/x': no policy for the tier 'gold'"
    ):
        World().around(never, rules=[Rule(path="/x", tier="gold")])


async def test_a_rule_of_a_late_gate_whose_tier_does_not_exist_refuses_every_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is found when the gate is, and the log says what it means."""
    world = World()
    middleware = FaregateMiddleware(
        never, lambda: world.gate, lambda _: USER, rules=[Rule(path="/x", tier="gold")]
    )
    assert (await call(middleware)).status == 503
    ((_, message),) = lines(caplog)
    assert message.startswith("all requests refused, configuration error: the rule for '/x'")


@pytest.mark.parametrize("tier", [None, "paid"])
async def test_a_rule_charges_by_its_tier_before_that_of_the_caller(tier: str | None) -> None:
    """A caller may also name a key, whose requests the limits by key count."""
    world = World()
    world.gate = Gate(world.ledger, world.store, TIERS)
    caller = Caller(user_id=USER, tier="free", limit_key="a")
    rules = [Rule(tier=tier)]
    answer = await call(world.around(answers(200), identify=lambda _: caller, rules=rules))
    name = b"credits" if tier is None else b"paid"
    assert answer.header(b"ratelimit") == b'"%s";r=2' % name
