"""Rules: which of them holds for a request, and what it then costs."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Scope

from faregate.asgi.rules import CORS_PREFLIGHT, Cost, KeyUse, Rule, Rules, cost_of, exempt
from faregate.domain.errors import (
    AmountError,
    ConfigurationError,
    FaregateError,
    InvalidArgumentError,
)


def scope_of(path: str, method: str = "GET", root_path: str = "") -> Scope:
    return {
        "type": "http",
        "path": root_path + path,
        "root_path": root_path,
        "method": method,
        "headers": [],
    }


RULES = Rules(
    [
        *exempt("/healthz", "/metrics"),
        CORS_PREFLIGHT,
        Rule(path="/reports/{id:int}", methods=["GET"], cost=5),
        Rule(path="/reports/{rest:path}", cost=2),
        Rule(methods=["DELETE"], cost=0),
    ]
)


@pytest.mark.parametrize(
    ("path", "method", "cost"),
    [
        ("/reports/7", "GET", 5),
        ("/reports/7", "HEAD", 5),
        ("/reports/7", "POST", 2),
        ("/reports/seven", "GET", 2),
        ("/reports", "GET", None),
        ("/anything", "DELETE", 0),
        ("/HEALTHZ", "GET", None),
        ("//healthz", "GET", None),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/api"])
def test_the_first_rule_that_matches_holds(
    path: str, method: str, cost: int | None, root_path: str
) -> None:
    """Wherever the app is mounted; GET stands for HEAD, and no other method for another."""
    rule = RULES.of(scope_of(path, method, root_path))
    assert (rule.cost, rule.is_exempt) == (cost, False)


def test_methods_match_requests_in_any_case() -> None:
    """A request with the method WEBSOCKET is no connection, and `get` is GET."""
    rules = Rules([Rule(methods=["WEBSOCKET"], is_exempt=True), Rule(methods=["get"], cost=4)])
    assert not rules.of(scope_of("/", "WEBSOCKET")).is_exempt
    assert rules.of({"type": "websocket", "path": "/", "headers": []}).is_exempt
    assert [rules.of(scope_of("/", method)).cost for method in ("GET", "get", "HEAD")] == [4, 4, 4]


def test_the_rest_of_a_path_may_be_anything() -> None:
    """Apps that are not Starlette's may serve what has a line feed in it."""
    rules = Rules([Rule(path="/files/{rest:path}", cost=5)])
    assert rules.of(scope_of("/files/a\nb")).cost == 5


def test_exempt_paths_are_exempt_and_the_preflight_only_as_such() -> None:
    """An OPTIONS request that is no question of a browser is charged like others."""
    assert RULES.of(scope_of("/healthz")).is_exempt
    assert RULES.of(scope_of("/metrics", "POST")).is_exempt
    preflight = scope_of("/anything", "OPTIONS")
    assert not RULES.of(preflight).is_exempt
    preflight["headers"] = [(b"origin", b"x"), (b"access-control-request-method", b"GET")]
    assert RULES.of(preflight).is_exempt


@pytest.mark.parametrize("path", ["/fixed", "/items/1"])
@pytest.mark.parametrize("suffix", ["", "\n", "/", "\r", "%0A", " "])
def test_no_spelling_of_a_path_reaches_an_endpoint_past_its_rule(path: str, suffix: str) -> None:
    """What Starlette routes to an endpoint, the rule for its path matches."""
    app = Starlette(
        routes=[
            Route(pattern, lambda _: PlainTextResponse("found"))
            for pattern in ("/fixed", "/items/{id}")
        ]
    )
    rules = Rules([Rule(path="/fixed", cost=9), Rule(path="/items/{id}", cost=9)])
    scope = scope_of(path + suffix)
    is_routed = any(route.matches(scope)[0].value == 2 for route in app.routes)
    # The router redirects a path with a slash more.
    assert (rules.of(scope).cost == 9) == (is_routed or suffix == "/")


def test_a_path_stands_for_itself_with_the_other_last_slash() -> None:
    """A probe of `/healthz/` needs no identity; a redirect costs what its target does."""
    rules = Rules([*exempt("/healthz"), Rule(path="/reports/", cost=5), Rule(path="/", cost=3)])
    assert rules.of(scope_of("/healthz/")).is_exempt
    assert [rules.of(scope_of(path)).cost for path in ("/reports", "/reports/")] == [5, 5]
    assert [rules.of(scope_of(path)).cost for path in ("/", "/healthz//")] == [3, None]


def test_two_rules_may_tell_both_spellings_of_a_path_apart() -> None:
    """Then each is for its own, whichever comes first."""
    rules = Rules([Rule(path="/reports", cost=1), Rule(path="/reports/", cost=2)])
    assert [rules.of(scope_of(path)).cost for path in ("/reports", "/reports/")] == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "reports"},
        {"methods": "GET"},
        {"cost": 1, "estimate": 1},
        {"cost": -1},
        {"cost": True},
        {"estimate": 0},
        {"message_cost": -1},
        {"hold_ttl_ms": 1},
        {"replay_bytes_max": -1},
        {"replay_bytes_max": 2**30},
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused_at_once(wrong: dict[str, object]) -> None:
    """Not with the first request that it is for."""
    with pytest.raises(FaregateError):
        Rule(**wrong)  # type: ignore[arg-type]


async def test_a_cost_is_fixed_or_computed() -> None:
    """From the scope, in a function or a coroutine."""

    async def later(scope: Scope) -> int:
        return len(scope["path"])

    scope = scope_of("/four")
    costs: list[Cost] = [3, lambda scope: len(scope["path"]) + 1, later]
    assert [await cost_of(cost, scope) for cost in costs] == [3, 6, 5]
    with pytest.raises(AmountError):
        await cost_of(lambda _: 2**31, scope)
    for wrong in (lambda _: -1, lambda _: 1.5, lambda _: True, lambda _: "1"):
        with pytest.raises(InvalidArgumentError):
            await cost_of(wrong, scope)  # type: ignore[arg-type]


def test_a_path_that_is_no_pattern_is_refused() -> None:
    """Starlette says what is wrong with it."""
    with pytest.raises((ConfigurationError, AssertionError, ValueError)):
        Rules([Rule(path="/{id:nothing}")])
    assert Rule().key_use is KeyUse.IGNORED
