"""The benchmarks themselves, in small: that they measure what they say."""

import pytest

from benchmarks import primaries
from benchmarks.bench import Bench, Cell, Plan
from benchmarks.errors import BenchError
from benchmarks.load import Load
from benchmarks.processes import talker
from benchmarks.scenarios import lookups
from benchmarks.servers import Servers
from faregate.cli.servers import Binaries, EmbeddedServers

DECISIONS = 200


@pytest.fixture(scope="module")
def bench(servers: EmbeddedServers, binaries: Binaries) -> Bench:
    """A bench on the servers of the tests: its figures mean nothing."""
    return Bench(Plan(rounds=1, seconds=0.1, is_quick=True), Servers(servers, binaries.redis))


def cell(target: str, *, users_count: int = 10) -> Cell:
    """A load that ends after some decisions."""
    load = Load(callers=8, seconds=60, users_count=users_count, decisions_max=DECISIONS)
    return Cell(case="8", variant=target, target=target, load=load)


@pytest.mark.long
def test_targets_decide_and_are_counted(bench: Bench) -> None:
    """Each decision is one, none is an error, and both processors were used."""
    targets = [
        "bare",
        "faregate",
        "faregate + 2 limits + allowance",
        "faregate + idempotency key",
        "faregate, hold + settle",
        "faregate-production",
    ]
    samples = bench.side_by_side("decisions", [cell(target) for target in targets])
    assert [sample.variant for sample in samples] == targets
    for sample in samples:
        values = sample.values
        assert values["refused"] == 0
        assert values["decisions"] >= DECISIONS or values["errors"]
        if sample.variant != "faregate-production":
            assert values["errors"] == {}
            assert values["client_cpu_us"] > 0
            assert values["redis_cpu_us"] > 0


def test_an_error_is_no_decision(bench: Bench) -> None:
    """Users that nobody has brought in are unknown: refused, not decided upon as allowed."""
    with bench.servers.place() as place, bench.clients(place, ["faregate"]) as clients:
        sample = bench.sample("decisions", cell("faregate"), clients["faregate"], 0)
    assert sample.values["refused"] == sample.values["decisions"] > 0


def test_each_late_lookup_is_answered_in_one_call(bench: Bench) -> None:
    """A refund of a row takes two: the gate asks Postgres in between."""
    samples = lookups.run(bench)
    assert [sample.variant for sample in samples] == list(lookups.REQUESTS)
    calls = {sample.variant: sample.values["calls"] for sample in samples}
    assert calls.pop("refund by id of a row") == 2
    assert set(calls.values()) == {1}
    assert not any(sample.values["not_answered"] for sample in samples)


@pytest.mark.long
def test_a_call_has_as_many_spends_as_callers_ask_at_once(bench: Bench) -> None:
    """On one shard; so the time of a call and that of each spend in it can be told apart."""
    samples = list(primaries.run(bench.servers, 0, (2,), 0.1))
    calls = {sample.case: sample.values for sample in samples if sample.scenario == primaries.CALLS}
    assert list(calls) == [str(size) for size in primaries.CALL_SIZES]
    for size, values in calls.items():
        # A turn of the loop may be late for some of them.
        assert 1 <= values["call_spends"] <= int(size)
        assert values["redis_cpu_us"] > 0
        assert values["log_bytes"] > 50
    on_two = [sample.values for sample in samples if sample.variant == "2"]
    assert len(on_two) == len(primaries.CALLERS)
    assert all(values["redis_cpu_us"] > 0 for values in on_two)


def test_a_process_that_fails_says_why() -> None:
    """In the words of its own traceback."""
    place = ("redis://127.0.0.1:1/0", "postgresql://127.0.0.1:1/none")
    with (
        pytest.raises(BenchError, match="KeyError: 'no such target'"),
        talker("client", "no such target", *place),
    ):
        pytest.fail("it is not ready")
