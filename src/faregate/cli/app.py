"""The command line: parses, calls, prints.

Exit codes: 0 all is well, 1 the ledger is not exact, 2 wrong use, 3 something is broken.
"""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from faregate.adapters.postgres.migrations import Migrator
from faregate.bootstrap import open_admin, open_audit, open_reconciliations, open_stream
from faregate.cli.access import access
from faregate.cli.conventions import (
    EXIT_BROKEN,
    EXIT_NOT_EXACT,
    EXIT_WRONG_USE,
    Json,
    print_table,
    tell,
)
from faregate.cli.demo import demo
from faregate.cli.display import counting, progress_on
from faregate.cli.journal import journal
from faregate.cli.keys import app as keys
from faregate.cli.renew import renew
from faregate.cli.replay import replay
from faregate.cli.sample_api import api
from faregate.config import LogFormat, read_settings
from faregate.domain.errors import ConfigurationError, FaregateError, InvalidArgumentError
from faregate.domain.finding import Finding
from faregate.ops.rebuild import rebuild as run_rebuild
from faregate.ops.reconcile import reconcile as run_reconcile
from faregate.ops.reconcile import verify as run_verify

app = typer.Typer(
    help="Credits for API calls: charged in Redis, recorded in Postgres, reconciled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_errors = Console(stderr=True)


@app.command()
def migrate(
    status: Annotated[bool, typer.Option(help="Show how each migration stands.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Apply what is pending, and roll it back.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the files for `supabase db push` to a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring Postgres to the schema of this version."""
    settings = read_settings()
    migrator = Migrator(settings.postgres_url)
    if export is not None:
        _print_names("exported", [str(path) for path in migrator.export(export)], as_json)
    elif status:
        rows = [{"name": item.name, "state": item.state.value} for item in migrator.status()]
        tell(rows, ("  ".join(row.values()) for row in rows), as_json=as_json)
    else:
        act = migrator.rehearse if dry_run else migrator.apply
        done = act(shard_count=settings.shard_count, starting_credits=settings.starting_credits)
        _print_names("rehearsed" if dry_run else "applied", done, as_json)


@app.command()
def worker(
    check: Annotated[bool, typer.Option(help="Exit 0 if records become rows.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve metrics for Prometheus there.", min=1, max=65_535)
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Lines for people, or one JSON object a line.")
    ] = None,
) -> None:
    """Run an RQ worker, and the ticker that gives it work, until SIGTERM."""
    # The ticker, a child of the worker, reads its settings anew.
    given = {"FAREGATE_METRICS_PORT": metrics_port, "FAREGATE_LOG_FORMAT": log_format}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    # The worker is a layer beside this one, so it is a program of its own: this one becomes it.
    arguments = [sys.executable, "-m", "faregate_worker", *(["--check"] if check else [])]
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606


@app.command()
def reconcile(
    since_last: Annotated[
        bool, typer.Option(help="Compare only users with rows since the last run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare every live balance with rows and pending records. Exit 1 where they differ."""
    settings = read_settings()
    with (
        open_stream(settings) as stream,
        open_audit(settings) as audit,
        open_reconciliations(settings) as kept,
        progress_on(_errors) as progress,
    ):
        next_since = kept.next_since()
        result = run_reconcile(
            stream,
            stream,
            audit,
            counting(progress, "users compared"),
            since=next_since if since_last else None,
        )
        kept.keep(result)
    report: dict[str, int | str] = {
        "users": result.users_count,
        "drift_users": result.drift_users_count,
        "pending": result.pending_count,
        "dead_letters": result.dead_letter_count,
    }
    if result.since:
        report["since"] = result.since.isoformat()
    _print_findings(report, result.findings, as_json)


@app.command()
def verify(as_json: Json = False) -> None:
    """Check the invariants of the ledger. Exit 1 where one does not hold."""
    settings = read_settings()
    with open_stream(settings) as stream, open_audit(settings) as audit:
        findings = run_verify(stream, stream, audit)
        report: dict[str, int | str] = {
            "findings_count": len(findings),
            "dead_letters": audit.dead_letter_count(),
            "digest": audit.digest(),
        }
    _print_findings(report, findings, as_json)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Let an empty Redis take over from one that was lost, from the rows in Postgres."""
    settings = read_settings()
    with open_stream(settings) as stream, open_admin(settings) as admin:
        epoch = run_rebuild(stream, admin)
    tell({"epoch": epoch}, [f"epoch {epoch} begins with the next API that starts"], as_json=as_json)


app.add_typer(journal, name="journal")
app.command()(access)
app.command()(api)
app.command()(renew)
app.command()(replay)
app.command()(demo)
app.add_typer(keys, name="keys")


def _print_names(verb: str, names: Sequence[str], as_json: bool) -> None:
    lines = [f"{verb} {name}" for name in names] or [f"nothing to be {verb}"]
    tell({verb: list(names)}, lines, as_json=as_json)


def _print_findings(
    report: Mapping[str, int | str], findings: Sequence[Finding], as_json: bool
) -> None:
    if not as_json:
        print_table(report)
    dead = report.get("dead_letters", 0)
    exact = f"exact, but for {dead} dead letters" if dead else "exact"
    lines = [f"{finding.kind}: {finding.detail}" for finding in findings]
    lines.append("not exact" if findings else exact)
    told = {**report, "findings": [asdict(finding) for finding in findings]}
    tell(told, lines, as_json=as_json)
    if findings:
        raise typer.Exit(EXIT_NOT_EXACT)


def main() -> None:
    """Run the command line; say what is broken in one line, what is unforeseen in a traceback."""
    try:
        app()
    except FaregateError as error:
        is_use = isinstance(error, ConfigurationError | InvalidArgumentError)
        _errors.print(f"faregate: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_WRONG_USE if is_use else EXIT_BROKEN)
    except Exception:
        # Python itself would exit with 1, which means that the ledger is not exact.
        traceback.print_exc()
        sys.exit(EXIT_BROKEN)
