"""`faregate journal`: shows and charges requests that were served without a decision."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from faregate.adapters.journal.reader import find_journals, open_journals
from faregate.cli.conventions import EXIT_NOT_EXACT, Json, error_console, print_result, print_tables
from faregate.cli.gates import ask, operator_gate
from faregate.config import read_settings
from faregate.domain.errors import ConfigurationError
from faregate.domain.journal import Collection, JournalEntry
from faregate.ops.journal import JournalImport, import_journals
from faregate.ports import JournalFile

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Journals, or folders of them; by default FAREGATE_JOURNAL_DIR."),
]

journal = typer.Typer(
    help="Show and charge requests that were served without a decision.",
    no_args_is_help=True,
)


@journal.command("import")
def import_(paths: Paths = None, as_json: Json = False) -> None:
    """Charge the requests in journals, each once. Exit 1 if some cannot be charged.

    Example: faregate journal import /var/lib/faregate/journal
    """
    reading = error_console().status("reading journals")
    with reading as shown, open_journals(_chosen(paths)) as files:

        def progress(count: int) -> None:
            shown.update(f"{count} requests read")

        # A user who was first seen in the outage was served, and is made now.
        gate = operator_gate(makes_users=True)
        result = ask(gate, lambda gate: import_journals(gate, files, progress))
    _print_import(result, as_json=as_json)
    if not result.is_exact:
        raise typer.Exit(EXIT_NOT_EXACT)


@journal.command()
def show(paths: Paths = None, as_json: Json = False) -> None:
    """Count the entries of journals. Contacts no server, and changes nothing.

    Example: faregate journal show
    """
    print_result([_summary(file) for file in find_journals(_chosen(paths))], as_json=as_json)


def _chosen(paths: Sequence[Path] | None) -> Sequence[Path]:
    if paths:
        return paths
    settings = read_settings()
    if not settings.journal_dir:
        raise ConfigurationError("name a journal, or set FAREGATE_JOURNAL_DIR")
    return [Path(settings.journal_dir)]


def _print_import(result: JournalImport, *, as_json: bool) -> None:
    numbers = {str(outcome): result.outcomes[outcome] for outcome in Collection}
    numbers |= {
        "credits_taken": result.charged,
        "credits_short": result.shortfall,
        "torn_files": result.torn_files,
    }
    if not as_json:
        print_tables(numbers)
    report = numbers | {
        "files_done": result.files_done,
        "files_left": result.files_left,
        "problems": [asdict(problem) for problem in result.problems],
    }
    lines = [f"imported {name}" for name in result.files_done]
    lines += [f"import again later: {name}" for name in result.files_left]
    lines += [f"{each.file} line {each.line}: {each.detail}" for each in result.problems]
    print_result(report, lines, as_json=as_json)


def _summary(file: JournalFile) -> dict[str, object]:
    counts: Counter[str] = Counter()
    end = file.size()
    for line in file.lines(0, end):
        if line.content is None:
            counts["unreadable"] += 1
        elif isinstance(line.content, JournalEntry):
            counts["requests"] += line.content.is_served
            counts["voids"] += not line.content.is_served
        else:
            counts["changes"] += 1
    names = ("requests", "voids", "changes", "unreadable")
    return {"file": file.name, "bytes": end} | {name: counts[name] for name in names}
