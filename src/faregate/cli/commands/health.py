"""`faregate status` and `faregate doctor`: the servers and the ledger, and what is wrong there."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import typer

from faregate import __version__
from faregate.bootstrap import open_probes
from faregate.cli.conventions import (
    EXIT_BROKEN,
    EXIT_NOT_EXACT,
    Json,
    members,
    print_result,
    show_verdict,
    text_of,
)
from faregate.config import read_settings
from faregate.domain.replication import LiveRedis
from faregate.ops.doctor import Examination, examine


def status(as_json: Json = False) -> None:
    """Show servers, backlog, workers, dead letters and the last reconciliation on one screen.

    It compares no numbers; `faregate reconcile` does. Exit codes are those of `doctor`.

    Example: faregate status
    """
    found = _examined()
    facts = {part: _plain(fact) for part, fact in found.facts.items()}
    if as_json:
        result = {"version": __version__, "is_well": found.is_well, **facts}
        print_result(result, as_json=True)
    else:
        print_result([_row(part, fact, found) for part, fact in facts.items()], as_json=False)
        count = len(found.symptoms)
        print(f"faults: {count}; run `faregate doctor`" if count else "no faults")
        _show_last(facts["reconciliation"])
    _end(found)


def doctor(as_json: Json = False) -> None:
    """List the faults of servers and ledger, with severity and fix.

    Exit 0 without errors, 1 with errors, 3 if a server does not answer.

    Example: faregate doctor
    """
    found = _examined()
    print_result([members(symptom) for symptom in found.symptoms], as_json=as_json)
    _end(found)


def _examined() -> Examination:
    with open_probes(read_settings()) as probes:
        return examine(probes)


def _plain(fact: Any) -> Any:
    if isinstance(fact, LiveRedis):
        whole = {"cluster": fact.cluster, "sentinels": fact.sentinels}
        return members(fact.worst) | {
            "nodes": [asdict(node) for node in fact.nodes],
            **{name: asdict(one) if one else None for name, one in whole.items()},
        }
    return members(fact) if is_dataclass(fact) else fact


def _row(part: str, fact: Any, found: Examination) -> dict[str, object]:
    """Return the facts of a part as one row."""
    default = "unknown" if fact is None else "well"
    worst = min((one.severity for one in found.symptoms if one.part == part), default=default)
    said = [f"{name} {text_of(value)}" for name, value in _words(fact or {})]
    return {"part": part.replace("_", " "), "is": worst, "says": said}


def _words(fact: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over the names and values of a part, those of nodes in a line each."""
    for name, value in fact.items():
        if name == "nodes":
            yield from (("node", _node(one, is_alone=len(value) == 1)) for one in value)
        elif name in ("cluster", "sentinels"):
            yield from ((key.replace("_", " "), one) for key, one in (value or {}).items())
        else:
            yield name.replace("_", " "), value


def _node(node: Mapping[str, Any], *, is_alone: bool) -> str:
    """Return the line of a primary with its replicas."""
    replicas = ", ".join(
        f"{one['name']} ({one['lag_bytes']:,} bytes and {one['lag_s']} s behind)"
        for one in node["replicas"]
    )
    shards = "" if is_alone else f", {node['shards']} shards"
    state = "" if node["server"] else ", does not answer"
    return f"{node['name']}{shards}{state}, {f'replicas {replicas}' if replicas else 'no replica'}"


def _show_last(last: Mapping[str, Any] | None) -> None:
    """Print the result of the last reconciliation."""
    if last:
        show_verdict(not last["findings"], f" at {text_of(last['ended_at'])}, by `reconcile`")
    else:
        print("never compared: run `faregate reconcile`")


def _end(found: Examination) -> None:
    if None in found.facts.values():
        raise typer.Exit(EXIT_BROKEN)
    if not found.is_well:
        raise typer.Exit(EXIT_NOT_EXACT)
