"""docs/performance.md is made of results alone: medians and spreads of ratios of the same round."""

from pathlib import Path
from xml.dom.minidom import parseString

import pytest

from benchmarks.bench import Plan, Sample, rotated
from benchmarks.errors import BenchError
from benchmarks.page import page_of, plots_of, write_page
from benchmarks.plots import nice_max
from benchmarks.results import Results, value_of
from benchmarks.scenarios import QUICK, SCENARIOS
from benchmarks.servers import redis_program
from benchmarks.statistics import Spread, percentile_ms, ratio
from faregate.cli.servers import Binaries

ROOT = Path(__file__).resolve().parents[2]


def sample(variant: str, number: int, rate: float, case: str = "64") -> Sample:
    """One measurement of decisions."""
    values = {
        "rate": rate,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "client_cpu_us": 10.0,
        "redis_cpu_us": None,
        "errors": {"TimeoutError": number},
    }
    return Sample(scenario="decisions", case=case, variant=variant, round=number, values=values)


@pytest.fixture
def results() -> Results:
    """Three rounds, in which the machine gets slower and slower, and Faregate is twice as fast."""
    rates = [(4_000.0, 2_000.0), (400.0, 200.0), (60.0, 20.0)]
    return Results(
        facts={"processors": 2, "versions": {"redis": "8.1.0"}},
        load_before={"1_min": 0.5},
        load_after={"1_min": 1.5},
        rounds=3,
        samples=[
            made
            for number, (ours, bare) in enumerate(rates)
            for made in (sample("faregate", number, ours), sample("bare", number, bare))
        ],
    )


def test_a_ratio_is_that_of_one_round(results: Results) -> None:
    """So what slows both sides down changes nothing."""
    found = results.of("decisions").ratio("64", "faregate", "bare", value_of("rate"))
    assert found == Spread(median=2.0, low=2.0, high=3.0)


def test_missing_values_are_no_numbers(results: Results) -> None:
    """A target that only failed has no ratio, and does not count as 0."""
    table = results.of("decisions")
    assert table.ratio("64", "faregate", "bare", value_of("redis_cpu_us")) is None
    assert table.spread("64", "limits", value_of("rate")) is None
    assert (ratio(1.0, None), ratio(None, 1.0), ratio(1.0, 0.0)) == (None, None, None)


def test_the_page_shows_ratios_before_rates(results: Results) -> None:
    """With errors, and without the sections of what was not measured."""
    page = page_of(results)
    assert "| 64 | 2.00 (2.00 to 3.00) | 1.00 |" in page
    assert page.index("2.00 (2.00 to 3.00)") < page.index("| 64 | faregate | 400 |")
    assert "| 64 | faregate | 400 | 1.00 | 2.00 | 10.0 | n/a | 1.00 |" in page
    assert "## Growth" not in page


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    """The page can be written anew from the file."""
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results
    write_page(results, tmp_path)
    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == page_of(results)


def test_plots_are_well_formed(results: Results) -> None:
    """A line for each variant, within the plot."""
    svg = parseString(plots_of(results)["decisions"])  # noqa: S318 - made here.
    lines = svg.getElementsByTagName("polyline")
    assert len(lines) == 2
    for line in lines:
        x, y = map(float, line.getAttribute("points").split(","))
        assert 0 < x < 720
        assert 0 < y < 380


@pytest.mark.parametrize(("highest", "expected"), [(0.4, 0.5), (1.0, 1.0), (12_345, 20_000)])
def test_axes_end_at_round_numbers(highest: float, expected: float) -> None:
    """Above all that is shown."""
    assert nice_max([highest]) == pytest.approx(expected)


def test_percentiles_are_values_that_were_measured() -> None:
    """By the nearest rank."""
    times_s = [number / 1_000 for number in range(1, 101)]
    assert percentile_ms(times_s, 50) == 50
    assert percentile_ms(times_s, 99) == 99
    assert percentile_ms([0.007], 99) == 7
    assert percentile_ms([], 50) is None


def test_another_variant_is_the_first_in_each_round() -> None:
    """And none is left out."""
    assert [rotated("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rotated("abc", 2)) == ["a", "b", "c"]


def test_a_quick_run_has_scenarios_that_exist() -> None:
    """Each by its name."""
    assert set(QUICK) <= set(SCENARIOS)
    assert Plan(rounds=1, seconds=1.0, is_quick=True).is_quick


def test_the_servers_of_the_wheel_are_not_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are built with another malloc, so each figure would be wrong; nor is none at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="not on PATH"):
        redis_program()
    (tmp_path / "redis-server").symlink_to(Binaries.from_wheels().redis)
    with pytest.raises(BenchError, match="is no Redis with jemalloc"):
        redis_program()


def test_the_page_is_that_of_the_results() -> None:
    """Nobody edits it by hand, nor the plots."""
    results = Results.read(ROOT / "benchmarks/results.json")
    docs = ROOT / "docs"
    assert (docs / "performance.md").read_text(encoding="utf-8") == page_of(results)
    for name, plot in plots_of(results).items():
        assert (docs / f"performance/{name}.svg").read_text(encoding="utf-8") == plot
