"""Each row of the table of answers, over the wire, on each server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import http_sf
import pytest
from redis import Redis

from faregate.bootstrap import open_stream
from waiting import wait_for
from wire_client import Answer, Api, check_problem


def out_of_credits(api: Api, user: UUID) -> Answer:
    for _ in range(3):
        assert api.ask("/anything", user).status == 200
    return api.ask("/anything", user)


def waits_for_a_period(api: Api, user: UUID) -> Answer:
    for _ in range(4):
        assert api.ask("/monthly", user).status == 200
    return api.ask("/monthly", user)


def too_fast(api: Api, user: UUID) -> Answer:
    assert api.ask("/limited", user).status == 200
    return api.ask("/limited", user)


def held_by_another(api: Api, user: UUID) -> Answer:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.ask, "/held", user)
        wait_for(lambda: live(api, user) == 0, "the other request holds all credits")
        answer = api.ask("/anything", user)
        api.ask(f"/release/{user}")
        assert held.result().json() == {"refunded": 2}
    return answer


def key_twice(api: Api, user: UUID) -> Answer:
    assert api.ask("/keyed", user, "POST", idempotency_key="one").status == 200
    return api.ask("/keyed", user, "POST", idempotency_key="one")


def key_reused(api: Api, user: UUID) -> Answer:
    assert api.ask("/keyed", user, "POST", idempotency_key="two").status == 200
    return api.ask("/keyed?another", user, "POST", idempotency_key="two")


#: What is done, the status, the code of the problem, and whether to come back later.
ROWS: dict[str, tuple[Callable[[Api, UUID], Answer], int, str, bool]] = {
    "out of credits": (out_of_credits, 402, "out_of_credits", False),
    "out of credits until a period begins": (waits_for_a_period, 429, "out_of_credits", True),
    "rate limit": (too_fast, 429, "rate_limited", True),
    "credits held": (held_by_another, 429, "credits_held", True),
    "no identity": (lambda api, _: api.ask("/anything"), 401, "no_identity", False),
    "key missing": (lambda api, user: api.ask("/keyed", user), 400, "key_required", False),
    "key malformed": (
        lambda api, user: api.ask("/keyed", user, idempotency_key='"open'),
        400,
        "key_malformed",
        False,
    ),
    "key done": (key_twice, 409, "key_done", False),
    "key reused": (key_reused, 422, "key_reused", False),
    "cost out of range": (
        lambda api, user: api.ask("/computed?1001", user),
        400,
        "cost_out_of_range",
        False,
    ),
}


def live(api: Api, user: UUID) -> int:
    """The live credits of a user, as Redis has them."""
    with open_stream(api.settings) as stream:
        found = stream.read_many([user]).get(user)
    return -1 if found is None else found.credits


def fields_of(answer: Answer, name: str) -> dict[str, dict[str, int]]:
    """The items of a field and their parameters, read by a parser that is not ours."""
    items: Any = http_sf.parse(answer.headers[name].encode(), tltype="list")
    return {str(value): dict(parameters) for value, parameters in items}


@pytest.mark.parametrize("row", ROWS)
def test_a_refusal_has_the_problem_in_the_table(api: Api, user: UUID, row: str) -> None:
    """Its status, its code, when to come back; and no more is charged for it."""
    do, status, code, comes_back = ROWS[row]
    answer = do(api, user)
    check_problem(answer, status, code)
    assert ("retry-after" in answer.headers) == comes_back
    if comes_back:
        assert int(answer.headers["retry-after"]) > 0
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/anything", "/monthly", "/limited"])
def test_fields_parse_and_agree_with_the_ledger(api: Api, user: UUID, path: str) -> None:
    """What is left by the field is what is left in Redis, and every policy is announced."""
    answer = api.ask(path, user)
    left = fields_of(answer, "ratelimit")
    policies = fields_of(answer, "ratelimit-policy")
    assert set(left) == set(policies)
    name = "credits" if path == "/anything" else path.removeprefix("/")
    assert left[name]["r"] == live(api, user)
    if path == "/limited":
        assert left["burst"]["r"] == 0
        assert policies["burst"]["q"] == 1
        refused = api.ask(path, user)
        wait_s = int(refused.headers["retry-after"])
        assert fields_of(refused, "ratelimit")["burst"]["t"] in {wait_s, wait_s + 1}
    if path == "/monthly":
        assert 0 < left[name]["t"] <= 31 * 86_400


def test_a_browser_reads_a_page(api: Api) -> None:
    """And a program that asks for anything reads JSON."""
    page = api.ask("/anything", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.status == 401
    assert page.headers["content-type"].startswith("text/html")
    assert api.ask("/anything", accept="*/*").json()["code"] == "no_identity"


def test_head_and_options_are_charged_and_the_preflight_is_not(api: Api, user: UUID) -> None:
    """A HEAD has no body, a preflight no identity."""
    assert api.ask("/anything", user, "OPTIONS").status == 200
    head = api.ask("/anything", user, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert live(api, user) == 1
    refused = api.ask("/anything", method="HEAD")
    assert (refused.status, refused.body) == (401, b"")
    preflight = api.ask(
        "/anything", method="OPTIONS", origin="null", access_control_request_method="GET"
    )
    # The app's own answer: this request was not charged, so its handler finds no charge.
    assert preflight.status == 500


@pytest.mark.parametrize(
    "name",
    ["{}", "{s00}", "a" * 9_000, "../../etc", "' or 1=1 --", "x%00y", "é", "-1"],
    ids=lambda name: name[:12],
)
def test_an_identity_that_is_none_is_refused_or_fails(api: Api, name: str) -> None:
    """Nothing is charged, and no key of Redis is made of it."""
    with Redis.from_url(api.settings.redis_url) as client:
        before = client.dbsize()
        answer = api.ask("/anything", x_user=name.encode().decode("latin-1"))
        assert answer.status in {400, 431, 500}
        assert client.dbsize() == before
