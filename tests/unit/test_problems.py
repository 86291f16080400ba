"""Refusals: which problem each one is, and what its body says."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from decisions import DAILY, DAY_MS, MIDNIGHT_MS, REFUSALS, decision
from faregate.asgi import problems
from faregate.asgi.answers import ProblemOptions
from faregate.asgi.problems import STATUSES, TYPES_PREFIX, Problem
from faregate.asgi.refusals import problem_of
from faregate.domain.decision import Verdict
from faregate.domain.errors import InvalidArgumentError
from faregate.domain.policy import in_current_period
from faregate.domain.user import User

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA: dict[str, Any] = json.loads((DOCS / "problem.schema.json").read_text("utf-8"))
PLAIN = ProblemOptions()
UPGRADE_URL = "https://example.org/plans?of=you"

#: Which problem each refusal is: code, status, what its type ends with, and when to come back.
TABLE: dict[str, tuple[str, int, str, int | None]] = {
    "no credits, and none to come": ("out_of_credits", 402, "#out_of_credits", None),
    "no credits until midnight": ("out_of_credits", 429, "#quota-exceeded", 50_400),
    "more than a day gives": ("out_of_credits", 402, "#out_of_credits", None),
    "a limit refuses": ("rate_limited", 429, "#quota-exceeded", 1),
    "two limits refuse": ("rate_limited", 429, "#quota-exceeded", 30),
    "credits are held": ("credits_held", 429, "#quota-exceeded", 1),
    "too many holds": ("too_many_holds", 429, "#too_many_holds", 1),
    "too many keys": ("too_many_keys", 429, "#too_many_keys", None),
    "nobody knows the user": ("unknown_user", 403, "#unknown_user", None),
    "given back": ("voided", 409, "#voided", None),
    "a full stream": ("backlog", 503, "#temporary-reduced-capacity", 5),
    "overloaded": ("overloaded", 503, "#temporary-reduced-capacity", 1),
    "another request's key": ("key_reused", 422, "#key_reused", None),
    "a key in flight": ("key_in_flight", 409, "#key_in_flight", 1),
    "a key that is done": ("key_done", 409, "#key_done", None),
    "no verdict on a request": ("unavailable", 503, "#temporary-reduced-capacity", 1),
}
#: Those that stand for no decision, or for one each.
NAMED = {
    problem.code: problem for problem in vars(problems).values() if isinstance(problem, Problem)
}
ALL = [*(problem_of(refusal) for refusal in REFUSALS.values()), *NAMED.values()]


def checked(problem: Problem, options: ProblemOptions = PLAIN) -> dict[str, Any]:
    """The body of a problem, which is valid and has no member that the schema does not explain."""
    body: dict[str, Any] = json.loads(json.dumps(options.members_of(problem)))
    Draft202012Validator(SCHEMA).validate(body)
    assert set(body) <= set(SCHEMA["properties"])
    return body


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_problem(name: str) -> None:
    """The mapping table, row by row."""
    problem = problem_of(REFUSALS[name])
    body = checked(problem)
    code, status, type_end, retry_after_s = TABLE[name]
    assert (body["code"], body["status"], problem.retry_after_s) == (code, status, retry_after_s)
    assert body["type"].endswith(type_end)
    assert body.get("retry_after") == retry_after_s


def test_every_verdict_on_a_request_has_a_row() -> None:
    """The others answer refunds and the ends of holds."""
    of_refunds = {"unknown_deduct", "refund_exceeded", "taken_over", "pending"}
    of_ends = {"hold_expired", "hold_closed", "hold_open"}
    rows = {refusal.verdict.value for refusal in REFUSALS.values()}
    assert rows == {verdict.value for verdict in Verdict} - of_refunds - of_ends - {"undecided"}


def test_a_served_request_has_no_problem() -> None:
    """To refuse what was charged would be an error of ours, which must not pass for a refusal."""
    with pytest.raises(InvalidArgumentError):
        problem_of(decision())


def test_a_user_without_credits_reads_balance_cost_and_where_to_get_more() -> None:
    """All that a client needs to decide what to do."""
    body = checked(problem_of(REFUSALS["no credits, and none to come"]))
    assert body == {
        "type": f"{TYPES_PREFIX}out_of_credits",
        "title": "Not enough credits",
        "status": 402,
        "detail": "This request costs 9 credits; the balance is 2 credits.",
        "code": "out_of_credits",
        "violated-policies": ["credits"],
        "credits": 2,
        "cost": 9,
        "limit": 3,
    }


def test_a_user_can_read_when_its_credits_come_back() -> None:
    """As a moment, and in seconds from now."""
    body = checked(problem_of(REFUSALS["no credits until midnight"]))
    assert body["resets_at"] == "2026-11-24T00:00:00Z"
    assert body["retry_after"] == 50_400
    assert (body["violated-policies"], body["limit"]) == (["daily"], 100)


def test_an_insufficient_reset_is_shown_without_a_retry_time() -> None:
    """A day brings 100, and the request costs 101."""
    body = checked(problem_of(REFUSALS["more than a day gives"]))
    assert (body["status"], body["resets_at"]) == (402, "2026-11-24T00:00:00Z")
    assert "retry_after" not in body


@pytest.mark.parametrize(
    ("balance", "left", "brought"),
    [(5, 0, 105), (45, 40, 105), (20, 20, 100), (-10, 0, 90), (-10, 30, 90), (0, 0, 100)],
)
def test_waiting_is_advised_only_where_the_reset_brings_enough(
    balance: int, left: int, brought: int
) -> None:
    """What is bought is kept, what is left of the allowance is replaced, a debt is paid first."""
    now = User(
        id=UUID(int=1),
        credits=balance,
        sequence=1,
        epoch=1,
        allowance_left=left,
        period_start_ms=MIDNIGHT_MS - DAY_MS,
    )
    assert in_current_period(now, DAILY.allowance, MIDNIGHT_MS)[0].credits == brought
    for cost, status in ((brought, 429), (brought + 1, 402)):
        refusal = decision(
            Verdict.OUT_OF_CREDITS,
            policy=DAILY,
            amount=-cost,
            credits=balance,
            allowance_left=left,
            resets_at_ms=MIDNIGHT_MS,
        )
        assert problem_of(refusal).status == status


def test_a_rate_limit_problem_lists_all_refusing_limits_and_the_last_to_allow() -> None:
    """So that who comes back then is not refused by the other one."""
    body = checked(problem_of(REFUSALS["two limits refuse"]))
    assert body["violated-policies"] == ["burst", "a minute"]
    assert (body["limit"], body["retry_after"]) == (10, 30)
    assert body["resets_at"] == "2026-11-23T10:00:31Z"


def test_a_limit_of_which_nothing_else_is_known_is_still_named() -> None:
    """Such as by a ledger that tells no more than which limit it was."""
    refusal = decision(Verdict.RATE_LIMITED, limited_by="burst", retry_after_ms=1_001)
    body = checked(problem_of(refusal))
    assert (body["violated-policies"], body["retry_after"]) == (["burst"], 2)


def test_held_credits_may_come_back_at_any_moment() -> None:
    """So that the end of the period says nothing."""
    body = checked(problem_of(REFUSALS["credits are held"]))
    assert (body["retry_after"], body["cost"], body["credits"]) == (1, 9, 2)
    assert "resets_at" not in body


def test_a_debt_is_named_in_the_body() -> None:
    """The fields cannot show it, the problem can."""
    body = checked(problem_of(decision(Verdict.OUT_OF_CREDITS, credits=-4)))
    assert (body["credits"], body["cost"]) == (-4, 1)
    assert body["detail"] == "This request costs 1 credit; the balance is -4 credits."


def test_codes_statuses_and_schema_agree() -> None:
    """Programs switch on the code, so that there is one list of them."""
    told = {problem.code: problem.status for problem in ALL if problem.status != 429}
    told |= {problem.code: problem.status for problem in ALL if problem.code not in told}
    assert told == dict(STATUSES)
    assert SCHEMA["properties"]["code"]["enum"] == sorted(STATUSES)


@pytest.mark.parametrize("options", [PLAIN, ProblemOptions(upgrade_url=UPGRADE_URL)], ids=str)
@pytest.mark.parametrize("number", range(len(ALL)))
def test_every_body_is_valid(number: int, options: ProblemOptions) -> None:
    """By the schema that is given to clients."""
    body = checked(ALL[number], options)
    assert ("upgrade_url" in body) == (
        options is not PLAIN and body["code"] in {"out_of_credits", "rate_limited"}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"code": "something"},
        {"status": 200},
        {"type": "no uri"},
        {"violated-policies": []},
        {"resets_at": "tomorrow"},
        {"retry_after": -1},
        {"upgrade_url": "javascript:alert(1)"},
    ],
    ids=str,
)
def test_the_schema_refuses_unknown_refusals(change: dict[str, Any]) -> None:
    """A schema that takes anything proves nothing."""
    body = checked(problem_of(REFUSALS["no credits until midnight"]))
    assert not Draft202012Validator(SCHEMA).is_valid(body | change)
    for name in ("type", "code", "violated-policies", "retry_after"):
        lacking = {key: value for key, value in body.items() if key != name}
        assert not Draft202012Validator(SCHEMA).is_valid(lacking)


def test_a_title_is_the_same_for_all_problems_of_its_type() -> None:
    """RFC 9457, section 3.1.4, but for the type that has no meaning of its own."""
    titles: dict[str, set[str]] = {}
    for problem in ALL:
        body = PLAIN.members_of(problem)
        titles.setdefault(str(body["type"]), set()).add(str(body["title"]))
    assert {kind: found for kind, found in titles.items() if len(found) > 1} == {}
    assert titles["about:blank"] == {"Unauthorized"}


def test_the_docs_explain_every_code_where_its_type_leads() -> None:
    """A heading each, so that `types_prefix` can point at a copy of the page."""
    page = (DOCS / "problems.md").read_text("utf-8")
    assert sorted(re.findall(r"^## ([a-z_]+)$", page, re.M)) == sorted(STATUSES)
    rows = re.findall(r"^\| \[([a-z_]+)\]\(#\1\) \| (\d+)", page, re.M)
    assert {code: int(status) for code, status in rows} == dict(STATUSES)
    assert TYPES_PREFIX in page


def test_the_docs_tell_the_type_of_each_code_and_when_to_retry() -> None:
    """As the refusals of this file have them: a code of two statuses has both types in its row."""
    page = (DOCS / "problems.md").read_text("utf-8")
    rows = re.findall(r"^\| \[([a-z_]+)\]\(#\1\) \|[^|]*\|([^|]*)\|([^|]*)\|$", page, re.M)
    told = {code: (kind.strip(), "Retry-After" in retry) for code, kind, retry in rows}
    for code in STATUSES:
        ours = [problem for problem in ALL if problem.code == code]
        kinds = {problem.type.rpartition("#")[2] or "own" for problem in ours}
        kind, is_told_when = told[code]
        assert kinds == set(re.findall(r"own|about:blank|[a-z]+(?:-[a-z]+)+", kind)), code
        assert is_told_when == any(problem.retry_after_s for problem in ours), code


def test_overloaded_clients_do_not_all_come_back_at_once() -> None:
    """The gate spreads them over a second; `Retry-After` has whole seconds, so it is one or two."""
    told = [
        problem_of(decision(Verdict.OVERLOADED, retry_after_ms=wait_ms)).retry_after_s
        for wait_ms in (1_000, 1_499, 1_500, 2_000)
    ]
    assert told == [1, 1, 2, 2]
