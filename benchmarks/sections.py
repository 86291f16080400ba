"""The sections of docs/performance.md: tables of each scenario, and plots."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.results import Results, Table, Value, value_of
from benchmarks.scenarios import (
    decisions,
    features,
    growth,
    lookups,
    memory,
    middleware,
    one_user,
    overload,
)
from benchmarks.statistics import Spread

_RATE, _CLIENT, _REDIS = value_of("rate"), value_of("client_cpu_us"), value_of("redis_cpu_us")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "n/a"
    text = _number(spread.median)
    if spread.low == spread.high:
        return text
    return f"{text} ({_number(spread.low)} to {_number(spread.high)})"


def _median(found: Table, case: str, variant: str, value: Value) -> str:
    spread = found.spread(case, variant, value)
    return "n/a" if spread is None else _number(spread.median)


def _ratios(found: Table, base: str, value: Value, first: str) -> str:
    rows = [
        [case, *(_spread(found.ratio(case, variant, base, value)) for variant in found.variants)]
        for case in found.cases
    ]
    return table((first, *found.variants), rows)


def _details(found: Table, columns: Mapping[str, Value], first: str) -> str:
    rows = [
        [case, variant, *(_median(found, case, variant, value) for value in columns.values())]
        for case in found.cases
        for variant in found.variants
        if found.cell(case, variant)
    ]
    return table((first, "", *columns), rows)


def _errors(name: str = "errors") -> Value:
    return lambda sample: float(sum(sample.values[name].values()))


_COLUMNS: Mapping[str, Value] = {
    "decisions/s": _RATE,
    "p50 ms": value_of("p50_ms"),
    "p99 ms": value_of("p99_ms"),
    "client µs": _CLIENT,
    "Redis µs": _REDIS,
    "errors": _errors(),
}


def _decisions(results: Results) -> str:
    found = results.of(decisions.NAME)
    if not found.samples:
        return ""
    return "\n".join([
        "## Decisions from one process\n",
        "![ratios](performance/decisions.svg)\n",
        "Decisions a second, as a multiple of *bare*:\n",
        _ratios(found, decisions.BASE, _RATE, "callers"),
        "Processor time of the client per decision, as a multiple of *bare*:\n",
        _ratios(found, decisions.BASE, _CLIENT, "callers"),
        "Processor time of Redis per decision, as a multiple of *bare*:\n",
        _ratios(found, decisions.BASE, _REDIS, "callers"),
        "Medians:\n",
        _details(found, _COLUMNS, "callers"),
    ])  # fmt: skip


def _middleware(results: Results) -> str:
    found = results.of(middleware.NAME)
    if not found.samples:
        return ""
    columns = {
        "requests/s": _RATE,
        "p50 ms": value_of("p50_ms"),
        "p99 ms": value_of("p99_ms"),
        "app µs": value_of("app_cpu_us"),
        "errors": _errors(),
    }
    return "\n".join([
        "## In front of an app\n",
        f"uvicorn with httptools, {middleware.CONNECTIONS} connections from another process.\n",
        "![share](performance/middleware.svg)\n",
        "Share of the bare app's requests a second:\n",
        _ratios(found, middleware.BASE, _RATE, "framework"),
        "Processor time of the app per request, as a multiple of the bare app's:\n",
        _ratios(found, middleware.BASE, value_of("app_cpu_us"), "framework"),
        "Medians:\n",
        _details(found, columns, "framework"),
    ])  # fmt: skip


def _features(results: Results) -> str:
    found = results.of(features.NAME)
    if not found.samples:
        return ""
    return "\n".join([
        "## Limits, allowances, keys, holds\n",
        "Decisions a second, as a multiple of the plain charge; hold + settle count as one:\n",
        _ratios(found, features.BASE, _RATE, "callers"),
        "Medians:\n",
        _details(found, _COLUMNS, "callers"),
    ])  # fmt: skip


def peak_of(found: Table) -> float | None:
    """Return the best goodput with 64 to 1,000 callers, by the medians of all ways to come back."""
    spreads = [
        found.spread(str(callers), variant, value_of("goodput"))
        for callers in overload.CALLERS
        if callers <= overload.PEAK_CALLERS_MAX
        for variant in found.variants
    ]
    return max((spread.median for spread in spreads if spread), default=None)


def _overload(results: Results) -> str:
    found = results.of(overload.NAME)
    peak = peak_of(found)
    if not peak:
        return ""
    loads = [case for case in found.cases if not case.startswith(overload.AFTERWARDS)]
    shares = [
        [case, *(_share(found, case, variant, peak) for variant in found.variants)]
        for case in loads
    ]
    again = [
        [case, *(_share(found, _after(case), variant, peak) for variant in found.variants)]
        for case in loads
    ]
    columns = {
        "goodput/s": value_of("goodput"),
        "decisions/s": _RATE,
        "p99 ms of all answers": value_of("answers_p99_ms"),
        "not sent/s": _a_second("LedgerUnavailableError"),
        "voided/s": _a_second("OutcomeUnknownError"),
        "breaker opened": _health("breaker_opened"),
        "waiting voids": _health("retries_waiting"),
    }
    rows = [
        [case, variant, *(_median(found, case, variant, value) for value in columns.values())]
        for case in loads
        for variant in found.variants
    ]
    head = ("callers", *(f"retry {variant}" for variant in found.variants))
    return "\n".join([
        "## Overload\n",
        f"Goodput counts decisions within {overload.TIMEOUT_MS} ms. Its peak, with up to "
        f"{overload.PEAK_CALLERS_MAX:,} callers, is {peak:,.0f}/s. Callers without a decision "
        "retry as told by `Retry-After`, after 100 ms, or after 5 ms.\n",
        "![goodput](performance/overload.svg)\n",
        "Goodput as a share of the peak:\n",
        table(head, shares),
        "Goodput of 64 callers a second after the load, as a share of the same peak:\n",
        table(head, again),
        "Medians:\n",
        table(("callers", "retry", *columns), rows),
    ])  # fmt: skip


def _after(case: str) -> str:
    return f"{overload.AFTERWARDS} {case}"


def _share(found: Table, case: str, variant: str, peak: float) -> str:
    goodput = value_of("goodput")
    return _spread(found.spread(case, variant, lambda sample: (goodput(sample) or 0) / peak))


def _health(name: str) -> Value:
    return lambda sample: sample.values["health"].get(name)


def _a_second(error: str) -> Value:
    return lambda sample: sample.values["errors"].get(error, 0) / sample.values["seconds"]


def _one_user(results: Results) -> str:
    found = results.of(one_user.NAME)
    if not found.samples:
        return ""
    return "\n".join([
        "## One user against many\n",
        "Decisions a second, as a multiple of the rate with 1,000 users:\n",
        _ratios(found, one_user.BASE, _RATE, "callers"),
        _details(found, _COLUMNS, "callers"),
    ])  # fmt: skip


def _growth(results: Results) -> str:
    found = results.of(growth.NAME)
    if not found.samples:
        return ""
    return "\n".join([
        "## Growth\n",
        "Processor time of Redis per decision, as a multiple of the time with 10,000 users:\n",
        _ratios(found, growth.BASE, _REDIS, "callers"),
        _details(found, {**_COLUMNS, "pending": value_of("pending")}, "callers"),
    ])  # fmt: skip


def _lookups(results: Results) -> str:
    found = results.of(lookups.NAME)
    if not found.samples:
        return ""
    columns = {
        "Redis µs": value_of("redis_us"),
        "calls": value_of("calls"),
        "without an answer": value_of("not_answered"),
    }
    rows = [
        [variant, *(_spread(found.spread("", variant, value)) for value in columns.values())]
        for variant in found.variants
    ]
    return "\n".join([
        "## Look-ups\n",
        "Processor time of Redis per request, over all its calls, in a shard that records 4,000 "
        "charges of the user a second. A request without an answer is refused.\n",
        table(("", *columns), rows),
    ])  # fmt: skip


def _memory(results: Results) -> str:
    found = results.of(memory.NAME)
    if not found.samples:
        return ""
    rows = [
        [variant, _spread(found.spread("", variant, value_of("bytes")))]
        for variant in found.variants
    ]
    return "## Memory\n\n" + table(("in Redis", "bytes"), rows)


Make = Callable[[Results], str]
SECTIONS: Sequence[Make] = (
    _decisions,
    _middleware,
    _features,
    _overload,
    _one_user,
    _growth,
    _lookups,
    _memory,
)
