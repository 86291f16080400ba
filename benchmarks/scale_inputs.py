"""What the model of docs/scale.md begins with: figures of results and of pages, with sources."""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.processes import ROOT
from benchmarks.results import Results, Table, value_of
from benchmarks.sizing import Line, Measured

RESULTS = ROOT / "benchmarks/results.json"
PRIMARIES = ROOT / "benchmarks/primaries.json"


@dataclass(frozen=True, slots=True)
class Source:
    """One input, as the page shows it."""

    meaning: str
    figure: str
    source: str


def read_inputs(results: Path = RESULTS, primaries: Path = PRIMARIES) -> Measured:
    """Read all inputs of the model."""
    calls, whole = Results.read(primaries).of("calls"), Results.read(results)
    account = whole.of("memory").spread("", "an account", value_of("bytes"))
    app = whole.of("middleware").spread("FastAPI", "bare app", value_of("app_cpu_us"))
    assert account is not None
    assert app is not None
    return Measured(
        redis_us=_line(calls, "redis_cpu_us"),
        client_us=_line(calls, "client_cpu_us"),
        log_bytes=_line(calls, "log_bytes"),
        received_bytes=_line(calls, "received_bytes"),
        sent_bytes=_line(calls, "sent_bytes"),
        account_bytes=account.median,
        app_us=app.median,
        record_bytes=_figure("docs/costs.md", r"\| record \| \d+ to (\d+) \|"),
        row_us=_figure("docs/sink.md", r"A row takes (\d+) µs"),
        row_bytes=_figure("docs/costs.md", r"with its indexes \| (\d+) \|"),
        leaf_bytes=_figure("docs/costs.md", r"its leaf \| \d+ to (\d+),"),
    )


def sources(measured: Measured) -> list[Source]:
    """Return all inputs with their sources."""
    ours, whole = "`make bench-primaries`", "[performance.md](performance.md)"
    costs, sink = "[costs.md](costs.md)", "[sink.md](sink.md)"
    return [
        Source("Redis, a decision", _told(measured.redis_us, "µs"), ours),
        Source("client, a decision", _told(measured.client_us, "µs"), ours),
        Source("AOF and each replica, a decision", _told(measured.log_bytes, "B"), ours),
        Source("received by Redis, a decision", _told(measured.received_bytes, "B"), ours),
        Source("sent by Redis, a decision", _told(measured.sent_bytes, "B"), ours),
        Source("user in Redis", f"{measured.account_bytes:.0f} B", whole),
        Source("record in Redis", f"{measured.record_bytes:.0f} B", costs),
        Source("request of a FastAPI app without a gate", f"{measured.app_us:.0f} µs", whole),
        Source("worker, a row", f"{measured.row_us:.0f} µs", sink),
        Source("row in Postgres, with indexes", f"{measured.row_bytes:.0f} B", costs),
        Source("its leaf, at most", f"{measured.leaf_bytes:.0f} B", costs),
    ]


def _told(line: Line, unit: str) -> str:
    return f"{line.each:.0f} + {line.call:.0f} / *s* {unit}"


def _line(calls: Table, name: str) -> Line:
    return Line.through(
        {
            # Whatever else runs only adds to a time, so the least one of the rounds counts.
            median(one.values["call_spends"] for one in cell): min(one.values[name] for one in cell)
            for case in calls.cases
            if (cell := calls.cell(case, calls.variants[0]))
        }
    )


def _figure(page: str, words: str) -> float:
    found = re.search(words, (ROOT / page).read_text(encoding="utf-8"))
    assert found is not None, f"{page} has no longer: {words}"
    return float(found[1])
