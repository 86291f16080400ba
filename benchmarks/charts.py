"""The plots of docs/performance.md, by the name of their files."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks import plots
from benchmarks.results import Results, value_of
from benchmarks.scenarios import decisions, middleware, overload

_RATE = value_of("rate")


def _decisions_plot(results: Results) -> str:
    found = results.of(decisions.NAME)
    series = {
        variant: [
            (float(case), spread.median)
            for case in found.cases
            if (spread := found.ratio(case, variant, decisions.BASE, _RATE))
        ]
        for variant in found.variants
    }
    return _lines("Decisions a second, as a multiple of bare", "multiple of bare", series)


def _overload_plot(results: Results) -> str:
    found = results.of(overload.NAME)
    series = {
        f"retry {variant}": [
            (float(case), spread.median)
            for case in found.cases
            if not case.startswith(overload.AFTERWARDS)
            if (spread := found.spread(case, variant, value_of("goodput")))
        ]
        for variant in found.variants
    }
    return _lines("Goodput under overload", "decisions in time a second", series)


def _lines(title: str, y_label: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    axes = plots.Axes(
        title=title,
        x_label="callers",
        y_label=y_label,
        xs=sorted({x for x, _ in points}),
        y_max=plots.nice_max([y for _, y in points]),
    )
    return plots.lines(axes, series)


def _middleware_plot(results: Results) -> str:
    found = results.of(middleware.NAME)
    values = {
        f"{case}, {variant}": spread.median
        for case in found.cases
        for variant in found.variants
        if variant != middleware.BASE
        if (spread := found.ratio(case, variant, middleware.BASE, _RATE))
    }
    return plots.bars("Share of the bare app's requests a second", values, "") if values else ""


Make = Callable[[Results], str]
PLOTS: Mapping[str, Make] = {
    "decisions": _decisions_plot,
    "middleware": _middleware_plot,
    "overload": _overload_plot,
}
