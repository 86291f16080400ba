"""Refusals: their status, type, members, headers, and how they are sent."""

import json
from typing import Any
from uuid import UUID

import pytest
from starlette.types import Message

from faregate.asgi.problems import (
    BACKLOG,
    NO_IDENTITY,
    UNAVAILABLE,
    UNKNOWN_USER,
    Problem,
    answer,
    credits_held,
    out_of_credits,
)
from faregate.domain.decision import Decision, Verdict
from faregate.domain.transaction import CreditTransactionId

ALL = [BACKLOG, NO_IDENTITY, UNAVAILABLE, UNKNOWN_USER]


def refusal(*, cost: int, credits: int) -> Problem:
    decision = Decision(
        verdict=Verdict.OUT_OF_CREDITS,
        user_id=UUID(int=1),
        transaction_id=CreditTransactionId(UUID(int=2)),
        amount=-cost,
        credits=credits,
    )
    return out_of_credits(decision, status=402, policy_name="credits", resets_in_s=None)


async def sent(problem: Problem, method: str = "GET") -> tuple[Message, Message]:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method}
    await answer(problem, scope, send, fields=[(b"x-field", b"1")])
    start, body = messages
    return start, body


def test_a_user_without_credits_reads_balance_and_cost() -> None:
    """All that a client needs to decide what to do: which policy, how much, how much more."""
    assert json.loads(refusal(cost=5, credits=1).body()) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "There are not enough credits for this request",
        "status": 402,
        "detail": "This request costs 5 credits; the balance is 1 credit.",
        "code": "out_of_credits",
        "violated-policies": ["credits"],
        "credits": 1,
        "cost": 5,
    }


def test_a_debt_is_named_in_the_body() -> None:
    """The fields cannot show it, the problem can."""
    body = json.loads(refusal(cost=1, credits=-4).body())
    assert (body["credits"], body["cost"]) == (-4, 1)
    assert body["detail"] == "This request costs 1 credit; the balance is -4 credits."


@pytest.mark.parametrize("problem", ALL, ids=lambda problem: problem.code)
def test_every_problem_says_its_status_and_reason(problem: Problem) -> None:
    """The body repeats the status, since bodies travel further than status lines."""
    body = json.loads(problem.body())
    assert body == {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }


def test_reasons_are_distinct() -> None:
    """Programs switch on the code."""
    codes = [problem.code for problem in [*ALL, refusal(cost=1, credits=0)]]
    assert len(set(codes)) == len(codes)


def test_a_problem_without_a_type_has_the_title_of_its_status() -> None:
    """RFC 9457, section 4.2.1, asks so of about:blank."""
    plain = {problem.status: problem.title for problem in ALL if problem.type == "about:blank"}
    assert plain == {401: "Unauthorized", 403: "Forbidden"}


async def test_a_problem_is_a_whole_response() -> None:
    """Its length is known, it is not to be stored, and its media type is that of problems."""
    start, body = await sent(UNKNOWN_USER)
    assert start["type"] == "http.response.start"
    assert start["status"] == 403
    assert start["headers"] == [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(UNKNOWN_USER.body())).encode()),
        (b"cache-control", b"no-store"),
        (b"x-field", b"1"),
    ]
    assert body == {"type": "http.response.body", "body": UNKNOWN_USER.body()}


async def test_a_head_request_gets_the_length_but_no_body() -> None:
    """HEAD answers with the headers of a GET, and nothing after them."""
    got, _ = await sent(UNKNOWN_USER)
    start, body = await sent(UNKNOWN_USER, "HEAD")
    assert start == got
    assert body == {"type": "http.response.body", "body": b""}


@pytest.mark.parametrize("problem", [BACKLOG, UNAVAILABLE], ids=lambda problem: problem.code)
async def test_what_passes_says_when_to_come_back(problem: Problem) -> None:
    """A 503 carries Retry-After, in whole seconds and more than none."""
    start, _ = await sent(problem)
    assert start["status"] == 503
    assert problem.retry_after_s
    assert (b"retry-after", str(problem.retry_after_s).encode()) in start["headers"]


async def test_what_is_held_by_other_requests_is_a_429_that_passes_soon() -> None:
    """Its code tells it from an empty balance."""
    decision = Decision(
        verdict=Verdict.CREDITS_HELD,
        user_id=UUID(int=1),
        transaction_id=CreditTransactionId(UUID(int=2)),
        amount=-2,
        credits=1,
    )
    problem = credits_held(decision, policy_name="credits")
    start, _ = await sent(problem)
    assert (start["status"], problem.code, problem.extensions["cost"]) == (429, "credits_held", 2)
    assert (b"retry-after", b"1") in start["headers"]


async def test_what_does_not_pass_asks_nobody_to_come_back() -> None:
    """Waiting does not help a user without credits, so nothing suggests it."""
    start, _ = await sent(refusal(cost=1, credits=0))
    assert b"retry-after" not in dict(start["headers"])
