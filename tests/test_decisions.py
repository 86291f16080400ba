"""The table of decisions in the docs is what the scripts say, what happens, and what is written."""

import re

import pytest
from faregate.adapters.redis.hold_keys import end_ids, end_keys
from spec.player import Player
from spec.redis_side import RedisSide
from spec.staging import staged
from spec.witnesses import Witness, agrees, play

from faregate.adapters.redis import scripts
from faregate.adapters.redis.runner import Patience
from faregate.domain.decision import Verdict
from scenarios import SCENARIOS
from scenarios.precedence import CAUSES, FINAL, LOOKBACK_MAX, NOTHING, REDIS_ONLY, refused
from spec.decision_table import DONE, TABLE, Row, refusals
from spec.steps import USERS, cancel, hold

pytestmark = pytest.mark.redis

OPERATIONS = list(dict.fromkeys(row.operation for row in TABLE))
#: What has no epoch to look for.
WITHOUT_EPOCH = {"complete", "observe"}


def said(operation: str) -> list[str]:
    """The refusals in the header of an operation's script, in their order."""
    (script,) = {row.script for row in TABLE if row.operation == operation}
    text = (scripts.folder() / f"{script}.lua").read_text(encoding="utf-8")
    header = re.sub(r"\n-- *", " ", text.partition("\n-- uses:")[0])
    statuses = header.partition("status: ")[2].partition(" Appends ")[0]
    statuses = re.sub(r"\([^)]*\)", "", statuses).rpartition("first that holds of ")[2]
    return [status for status in re.findall(r"\w+", statuses) if status not in DONE]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_table_has_the_order_of_the_scripts(operation: str) -> None:
    """Their headers name each refusal, in the order in which they look for it."""
    first = [] if operation in WITHOUT_EPOCH else ["uninitialised"]
    assert said(operation) == [*first, *(row.status for row in refusals(operation))]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_verdicts_have_the_order_of_the_table(operation: str) -> None:
    """Whoever reads the code finds the same order there."""
    order = list(Verdict)
    found = [order.index(row.answer) for row in refusals(operation) if row.answer in order]  # type: ignore[arg-type]
    assert found == sorted(found)


@pytest.fixture(scope="module")
def scenes(redis_url: str) -> list[tuple[Witness, Witness]]:
    """Every step of every scenario, on Redis and in memory."""
    with staged(redis_url) as stage:
        return [
            pair
            for name, steps in SCENARIOS.items()
            for pair in zip(
                play(stage, "redis", steps, name), play(stage, "memory", steps, name), strict=True
            )
        ]


def shown(witness: Witness) -> list[Row]:
    """The rows that a step shows: those of what it was answered that let it write what it did."""
    known = {row.script for row in TABLE}
    heard = [each for each in witness.heard if each[0] in known and each[1] != "uninitialised"]
    rows = [[row for row in TABLE if (row.script, row.status) == each] for each in heard]
    assert all(rows), f"an answer that is no row: {witness}"
    if not rows:
        # Ill-formed, or of no ledger. What a worker sweeps has no answer that is heard here.
        assert not witness.written or witness.step.do == "sweep", witness
        return []
    found = [row for row in rows[-1] if row.accepts(witness.written)]
    # Several holds may expire at once, each with a record.
    assert found or heard.count(("expire", "allowed")) > 1, f"no such records: {witness}"
    return found


def test_each_step_answers_and_writes_what_its_row_says(
    scenes: list[tuple[Witness, Witness]],
) -> None:
    """On Redis as in memory, whatever the scenario."""
    for live, specified in scenes:
        rows = shown(live)
        assert live.written == specified.written, live
        # These two have no answer but that they are done.
        if live.step.do not in {"expire_due", "correct"}:
            assert all(agrees(row, live.played) for row in rows), live
            assert all(agrees(row, specified.played) for row in rows), specified


def test_every_row_is_shown(scenes: list[tuple[Witness, Witness]], redis_url: str) -> None:
    """By a scenario, by a refusal that only Redis can show, or by a sweep that comes second."""
    found = [row for live, _ in scenes for row in shown(live)]

    def shorten(_script: str, source: str) -> str:
        return source.replace("LOOKBACK_MAX = 10000", f"LOOKBACK_MAX = {LOOKBACK_MAX}")

    with staged(redis_url, shorten) as stage:
        for operation, causes in CAUSES.items():
            for status in REDIS_ONLY & set(causes):
                steps = refused(FINAL[operation], causes[status], NOTHING)
                found += shown(play(stage, "redis", steps, operation)[-1])
        side = stage.side("redis")
        assert isinstance(side, RedisSide)
        late = stage.loop.run(sweep_late(side))
    found += [row for row in TABLE if row.operation == "expire" and row.status in late]
    assert [row for row in TABLE if row not in found] == []


async def sweep_late(side: RedisSide) -> list[str]:
    """Try to end holds that have changed since a sweep found them due."""
    await side.start()
    player, user_id, statuses = Player(side), USERS["ann"], []
    for step in (hold("a"), cancel("a"), hold("b")):
        assert (await player.play(step)).answer is Verdict.ALLOWED
    before = await side.look()
    for name in ("a", "b", "nothing"):
        hold_id = player.ids.of(user_id, name, side.clock())
        names, arguments = end_keys(0, user_id, hold_id), end_ids(user_id, hold_id)
        reply = await side.ledger._run("expire", names, arguments, Patience(5.0))
        statuses.append(reply[0].decode())
    after = await side.look()
    assert (after.live, after.new) == (before.live, [])
    return statuses
