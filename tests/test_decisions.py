"""The table of decisions in the docs is what the scripts say, what happens, and what is written."""

import re
from collections.abc import Iterator

import pytest

from contract.test_precedence import shorten_searches
from faregate.adapters.redis import replies, scripts
from faregate.domain.decision import Verdict
from scenarios import SCENARIOS
from scenarios.precedence import CAUSES, FINAL, NOTHING, REDIS_ONLY, refused
from spec.decision_table import ANY, DONE, OPERATIONS, TABLE, Row, refusals
from spec.stage import KINDS, Stage, staged
from spec.trace import Traced, trace

pytestmark = pytest.mark.redis

#: The script of each operation whose header names its statuses.
HEADERS = {
    "settle": "end",
    "extend": "extend",
    "grant": "credit",
    "refund": "refund",
    "void": "void",
    "renew": "renew",
    "complete": "complete",
    "read": "read",
}
#: What no caller sees: a sweep that comes second, and a search that goes on.
UNSEEN = {"hold_closed", "hold_open", "unresolved", "and"}
#: Steps that no row is about.
APART = {"batch", "correct", "counts", "kept", "wait", "drain", "lose", "wipe", "fill"}
APART |= {"alter", "look", "align"}


def said(script: str) -> list[str]:
    """The refusals in the header of a script, in their order."""
    text = (scripts.folder() / f"{script}.lua").read_text(encoding="utf-8")
    header = re.sub(r"\n-- *", " ", text.partition("\n-- uses:")[0])
    statuses = header.partition("status: ")[2].partition(" Appends ")[0]
    statuses = re.sub(r"\([^)]*\)", "", statuses).rpartition("first that applies of ")[2]
    return [status for status in re.findall(r"\w+", statuses) if status not in DONE]


@pytest.mark.parametrize("operation", HEADERS)
def test_the_table_has_the_order_of_the_scripts(operation: str) -> None:
    """Their headers name each refusal, in the order in which they look for it."""
    ours = [*ANY, *(row.status for row in refusals(operation))]
    assert [one for one in said(HEADERS[operation]) if one in ours or one not in UNSEEN] == ours


def test_the_table_has_the_order_of_spends() -> None:
    """The numbers of the statuses have it, too."""
    ours = [*ANY, *(row.status for row in refusals("spend"))]
    assert [one for one in replies.STATUSES if one not in DONE | {"invalid"}] == ours


@pytest.mark.parametrize("operation", dict.fromkeys(row.operation for row in TABLE))
def test_the_verdicts_have_the_order_of_the_table(operation: str) -> None:
    """Who reads the code finds the same order there."""
    order = list(Verdict)
    found = [order.index(row.answer) for row in refusals(operation) if row.answer in order]  # type: ignore[arg-type]
    assert found == sorted(found)


@pytest.fixture(scope="module")
def stage(redis_url: str) -> Iterator[Stage]:
    with staged(redis_url, shorten_searches) as opened:
        yield opened


@pytest.fixture(scope="module")
def traces(stage: Stage) -> list[Traced]:
    """Every step of every scenario, on Redis and in memory."""
    return [
        traced
        for kind in KINDS
        for name, steps in SCENARIOS.items()
        for traced in trace(stage, kind, steps, f"{kind}: {name}")
        if traced.step.do not in APART
    ]


def test_each_step_answers_and_writes_as_its_row_of_the_table(traces: list[Traced]) -> None:
    """On Redis as in memory, whatever the scenario."""
    for traced in traces:
        is_error = isinstance(traced.played.answer, type)
        if traced.step.do in {"expire", "sweep"}:
            ended = traced.played.tells["ended"]
            assert len(traced.written) <= int(str(ended)), traced
        else:
            # An ill-formed argument, and a ledger that is gone, are rows about all operations.
            assert traced.rows() or (is_error and not traced.written), traced


def test_every_row_is_shown(traces: list[Traced], stage: Stage) -> None:
    """By a scenario, or by a refusal that only Redis can show."""
    found: list[Row] = [row for traced in traces for row in traced.rows()]
    for name, causes in CAUSES.items():
        for status in REDIS_ONLY & set(causes):
            steps = refused(FINAL[name], causes[status], NOTHING)
            found += trace(stage, "redis", steps, name)[-1].rows()
    assert [row for row in TABLE if row not in found] == []
    assert {OPERATIONS.get(one, one) for one in CAUSES} <= {row.operation for row in TABLE}
