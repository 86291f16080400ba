"""The usage app: what it tells whom, in which form, and that it changes nothing."""

import asyncio
import json
from uuid import uuid4

import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Mount

from faregate import Allowance, CreditPolicy, Period, PeriodKind, PolicySet, TransactionType
from faregate.adapters.memory.ledger import MemoryLedger
from faregate.adapters.memory.store import MemoryStore
from faregate.asgi import usage_app
from faregate.domain.errors import ConfigurationError
from faregate.domain.policy import GateOptions
from faregate.gate import Gate
from faregate.testing import Failure, memory_gate
from usage_client import app_of, document, get, read

MONTHLY = CreditPolicy(
    name="free",
    starting_credits=0,
    allowance=Allowance(amount=100, period=Period(kind=PeriodKind.MONTH)),
)
STAFF = CreditPolicy(name="staff", starting_credits=0, is_unlimited=True)


async def test_usage_equals_the_state_that_the_next_charge_finds() -> None:
    """Allowance, bought credits, holds and the period, in UTC."""
    gate = memory_gate(MONTHLY)
    user = gate.sign_up()
    await gate.charge(user, cost=81)
    await gate.hold(user, 3)
    expected: dict[str, object] = {
        "policy": "free",
        "is_unlimited": False,
        "remaining": 16,
        "held": 3,
        "limit": 100,
        "used": 84,
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-02-01T00:00:00Z",
        "warning": True,
    }
    app = app_of(gate, user)
    assert await read(app, "/usage") == expected
    await gate.grant(user, 10)
    assert await read(app, "/usage") == expected | {"remaining": 26, "warning": False}
    gate.clock.advance(31 * 86_400_000)
    assert (await read(app, "/usage"))["used"] == 0


async def test_without_an_allowance_there_is_no_period() -> None:
    """Null, and not a number that means nothing; of an unlimited user, too."""
    gate = memory_gate()
    user = gate.sign_up()
    await gate.charge(user)
    assert await read(app_of(gate, user), "/usage") == {
        "policy": "credits",
        "is_unlimited": False,
        "remaining": 2,
        "held": 0,
        "limit": None,
        "used": None,
        "period_start": None,
        "period_end": None,
        "warning": False,
    }
    gate = memory_gate(PolicySet(tiers={"staff": STAFF}, default_tier="staff"))
    usage = await read(app_of(gate, gate.sign_up()), "/usage")
    assert (usage["policy"], usage["is_unlimited"]) == ("staff", True)


@pytest.mark.parametrize("path", ["/usage", "/usage/history"])
async def test_a_request_without_a_user_gets_no_rate_limit_fields(path: str) -> None:
    """401 with a challenge; the gate is not even asked."""

    def no_gate() -> Gate:
        raise AssertionError("nobody knows whom to ask for")

    app = app_of(no_gate, None)
    assert (await read(app, path))["code"] == "no_identity"
    answer = await get(app, path)
    assert (answer.status, answer.header(b"www-authenticate")) == (401, b"Bearer")


async def test_an_unknown_user_has_no_usage_and_an_empty_history() -> None:
    """And is not made known by asking."""
    gate = memory_gate()
    app = app_of(gate, uuid4())
    assert (await read(app, "/usage"))["code"] == "unknown_user"
    assert await read(app, "/usage/history") == {"transactions": [], "next_cursor": None}
    assert gate.records() == []


@pytest.mark.parametrize(
    ("failure", "statuses"),
    [
        (Failure.REDIS_DOWN, (503, 200)),
        (Failure.REDIS_LOST, (503, 200)),
        (Failure.POSTGRES_DOWN, (200, 503)),
    ],
)
async def test_a_key_that_cannot_be_checked_now_is_a_503(
    failure: Failure, statuses: tuple[int, int]
) -> None:
    """Usage needs Redis, history needs Postgres, neither needs both."""
    gate = memory_gate()
    app = app_of(gate, gate.sign_up())
    with gate.failing(failure):
        for path, status in zip(("/usage", "/usage/history"), statuses, strict=True):
            body = await read(app, path)
            assert body.get("status", 200) == status
            assert (await get(app, path)).header(b"retry-after") == (
                (b"5" if failure is Failure.REDIS_LOST else b"1") if status == 503 else None
            )


async def test_a_gate_without_a_history_is_a_mistake_and_not_an_empty_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503, and the log says what is to be put right."""
    whole = memory_gate()
    gate = Gate(MemoryLedger(), MemoryStore(), CreditPolicy())
    problem = await read(app_of(lambda: gate, whole.sign_up()), "/usage/history")
    assert problem["code"] == "unavailable"
    assert "no history" in caplog.text


async def test_asking_charges_nothing_and_records_nothing() -> None:
    """However often; a head is as good as its body, and nothing can be sent."""
    gate = memory_gate()
    user = gate.sign_up()
    await gate.charge(user)
    app, before = app_of(gate, user), gate.records()
    for _ in range(3):
        await read(app, "/usage")
        await read(app, "/usage/history")
        for path in ("/usage", "/usage/history"):
            assert (await get(app, path, method="HEAD")).status == 200
            assert (await get(app, path, method="POST")).status == 405
            assert (await get(app, path, method="DELETE")).status == 405
    assert gate.records() == before
    assert gate.credits_of(user) == 2


async def test_the_document_is_valid_and_says_where_the_app_is() -> None:
    """By a validator that is not ours; under whatever it is mounted, and to anybody."""
    gate = memory_gate()
    app = app_of(gate, None)
    described = await document(app)
    validate(described)
    assert described["servers"] == [{"url": "/"}]
    assert described["paths"].keys() == {"/usage", "/usage/history"}
    kinds = described["components"]["schemas"]["Transaction"]["properties"]["type"]["enum"]
    assert kinds == [str(kind) for kind in TransactionType]

    mounted = Starlette(routes=[Mount("/me", app=app_of(gate, gate.sign_up()))])
    answer = await get(mounted, "/me/usage/openapi.json")
    assert json.loads(answer.body)["servers"] == [{"url": "/me"}]
    assert (await get(mounted, "/me/usage")).status == 200


def test_an_app_that_could_not_work_is_not_built() -> None:
    """No default identity; nothing that would be found out by the first user."""
    gate = memory_gate()
    with pytest.raises(TypeError, match="identity"):
        usage_app(gate, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gate"):
        usage_app("gate", lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="challenge"):
        usage_app(gate, lambda _: None, challenge="Bearer\r\nx: y")


async def test_to_ask_for_usage_makes_no_user() -> None:
    """Although its first charge does, also where both come at once."""
    stranger = uuid4()
    gate = memory_gate(options=GateOptions(provision_users=True))
    assert (await read(app_of(gate, stranger), "/usage"))["code"] == "unknown_user"
    assert gate.records(stranger) == []
    looking = gate.usage(stranger, creates=False)
    usage, decision = await asyncio.gather(looking, gate.charge(stranger))
    assert (usage, decision.allowed) == (None, True)
    assert (await read(app_of(gate, stranger), "/usage"))["remaining"] == 2
