"""Commands of the setup: migrate, worker, config."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.conventions import EXIT_WRONG_USE, Json, error_console, members, print_result
from faregate.cli.extras import package
from faregate.config import PREFIX, LogFormat, Settings, masked, read_settings
from faregate.domain.errors import UnfitDatabaseError
from faregate.domain.obstacle import Obstacle


def migrate(
    status: Annotated[bool, typer.Option(help="Show the state of each migration.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Apply pending migrations, and roll them back.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option(help="First run the adoptions that --status shows.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the files for `supabase db push` to a folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Migrate Postgres to the schema of this version. It is safe to run again.

    It checks the database first, and changes all or nothing. It prints each obstacle with its fix.

    Example: faregate migrate --dry-run
    """
    settings = read_settings()
    migrator = Migrator(settings.postgres_url)
    if export is not None:
        _print_names("exported", [str(path) for path in migrator.export(export)], as_json)
    elif status:
        rows = [{"name": item.name, "state": item.state.value} for item in migrator.status()]
        found = [members(item) for item in migrator.obstacles()]
        print_result({"migrations": rows, "obstacles": found}, as_json=as_json)
    else:
        act = migrator.dry_run if dry_run else migrator.apply
        done: list[str] = []
        try:
            act(
                shard_count=settings.shard_count,
                starting_credits=settings.starting_credits,
                adopt=adopt,
                on_progress=done.append,
            )
        except UnfitDatabaseError as error:
            _refuse(error.obstacles, as_json)
        _print_names("rehearsed" if dry_run else "applied", done, as_json)


def _refuse(obstacles: Sequence[Obstacle], as_json: bool) -> NoReturn:
    """Print each obstacle on a line of its own, and exit. Nothing was changed."""
    if as_json:
        print_result({"obstacles": [members(one) for one in obstacles]}, as_json=True)
    else:
        for one in obstacles:
            line = " ".join(f"faregate: {one}".split())
            error_console().print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_WRONG_USE)


def _print_names(verb: str, names: Sequence[str], as_json: bool) -> None:
    lines = [f"{verb} {name}" for name in names] or [f"nothing to be {verb}"]
    print_result({verb: list(names)}, lines, as_json=as_json)


def worker(
    check: Annotated[bool, typer.Option(help="Exit 0 if records become rows.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(help="The port for Prometheus metrics.", min=1, max=65_535)
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Text, or one JSON object a line.")
    ] = None,
) -> None:
    """Run an RQ worker and its ticker until SIGTERM.

    Example: faregate worker --metrics-port 9101
    """
    package("rq", "worker")
    # The ticker, a child of the worker, reads its settings again.
    given = {"FAREGATE_METRICS_PORT": metrics_port, "FAREGATE_LOG_FORMAT": log_format}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    # The worker is a separate layer, so this process becomes its program by exec.
    arguments = [sys.executable, "-m", "faregate_worker", *(["--check"] if check else [])]
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606


def config(as_json: Json = False) -> None:
    """Print all settings with their sources, without passwords.

    Example: faregate config
    """
    settings = read_settings()
    result = [
        {
            "name": PREFIX + name.upper(),
            "value": _shown(settings, name),
            "source": "environment" if name in settings.model_fields_set else "default",
        }
        for name in Settings.model_fields
    ]
    print_result(result, as_json=as_json)


def _shown(settings: Settings, name: str) -> object:
    """Return the value of a setting, masked if it may hold a password."""
    value = getattr(settings, name)
    return value if Settings.model_fields[name].repr else masked(value)
