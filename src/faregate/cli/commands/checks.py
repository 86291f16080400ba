"""Whether the numbers agree: reconcile and verify."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from faregate.bootstrap import open_audit, open_reconciliations, open_servers, open_stream
from faregate.cli.conventions import (
    EXIT_NOT_EXACT,
    Json,
    error_console,
    members,
    print_result,
    print_tables,
    show_verdict,
)
from faregate.cli.display import counting, progress_on
from faregate.config import read_settings
from faregate.domain.finding import Acknowledgement, Finding
from faregate.domain.server import Symptom
from faregate.ops.doctor import examine
from faregate.ops.reconcile import reconcile as run_reconcile
from faregate.ops.reconcile import verification


def reconcile(
    since_last: Annotated[
        bool, typer.Option(help="Compare only users with rows since the last run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare every live balance with rows and pending records. Exit 1 if they differ.

    Example: faregate reconcile --since-last
    """
    settings, console = read_settings(), error_console()
    with (
        open_stream(settings) as stream,
        open_audit(settings) as audit,
        open_reconciliations(settings) as reconciliations,
        # Only on a terminal: in a log the bar would be an empty line.
        progress_on(console, is_hidden=not console.is_terminal) as progress,
    ):
        next_since = reconciliations.next_since()
        result = run_reconcile(
            stream,
            stream,
            audit,
            counting(progress, "users compared"),
            since=next_since if since_last else None,
        )
        reconciliations.save(result)
    report: dict[str, int | str] = {
        "users": result.users_count,
        "drift_users": result.drift_users_count,
        "pending": result.pending_count,
        "dead_letters": result.dead_letter_count,
    }
    if result.since:
        report["since"] = result.since.isoformat()
    _print_findings(report, result.findings, result.acknowledged, as_json)


def verify(as_json: Json = False) -> None:
    """Check the invariants of the ledger. Exit 1 if one does not hold, 3 if rows are hidden.

    Faults of the servers are warnings and do not change the exit code.

    Example: faregate verify --json
    """
    settings = read_settings()
    with (
        open_stream(settings) as stream,
        open_audit(settings) as audit,
        open_servers(settings) as probes,
    ):
        result = verification(stream, stream, audit)
        report: dict[str, int | str] = {
            "findings_count": len(result.findings),
            "dead_letters": audit.dead_letter_count(),
            "digest": audit.digest(),
        }
        warnings = examine(probes).symptoms
    _print_findings(report, result.findings, result.acknowledged, as_json, warnings)


def _print_findings(
    report: Mapping[str, int | str],
    findings: Sequence[Finding],
    acknowledged: Sequence[tuple[Finding, Acknowledgement]],
    as_json: bool,
    warnings: Sequence[Symptom] | None = None,
) -> None:
    if as_json:
        accepted = [{**finding.as_dict(), **members(by)} for finding, by in acknowledged]
        result = {
            **report,
            "findings": [one.as_dict() for one in findings],
            "acknowledged": accepted,
        }
        if warnings is not None:
            result["warnings"] = [members(symptom) for symptom in warnings]
        print_result(result, as_json=True)
    else:
        print_tables(report)
        for finding in findings:
            print(f"{finding.id}: {finding.detail} Repair: {finding.repair}")
        for finding, by in acknowledged:
            print(f"{finding.id}: {finding.detail} Acknowledged by {by.actor}: {by.reason}")
        for symptom in warnings or ():
            print(f"warning: {symptom.detail} ({symptom.remedy})")
        dead = report["dead_letters"]
        show_verdict(not findings, f", except for {dead} dead letters" if dead else "")
    if findings:
        raise typer.Exit(EXIT_NOT_EXACT)
