"""`faregate dev`: runs an app with servers, a worker and a page of their own, for development."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from typing import Annotated

import typer
from rich.console import Console

from faregate.adapters.postgres.migrations import Migrator
from faregate.cli.child import Program
from faregate.cli.dev.demo_user import DEMO_USER, sign_in
from faregate.cli.dev.folder import DevFolder
from faregate.cli.dev.page import serving
from faregate.cli.dev.processes import App, Worker
from faregate.cli.display import printer_on
from faregate.cli.servers import EmbeddedServers
from faregate.cli.settings import as_environment, development_settings
from faregate.cli.sockets import LOOPBACK, listen, url_of
from faregate.cli.stack import WATCH_INTERVAL_S, stopping_on_signals, worker_program
from faregate.config import PREFIX, Settings

#: Forgiving defaults for development; variables of the environment take precedence.
_DEFAULTS = {"provision_users": True, "decision_timeout_ms": 5_000}

Port = Annotated[int, typer.Option(help="0 for any free port.", min=0, max=65535)]


def _app_name(given: str) -> str:
    if ":" not in given:
        raise typer.BadParameter(f"name the app as module:attribute, not {given!r}")
    return given


AppName = Annotated[
    str,
    typer.Argument(metavar="APP", help="The app to run: module:attribute.", callback=_app_name),
]


def dev(
    app: AppName,
    port: Port = 8000,
    page_port: Port = 8001,
    data: Annotated[Path, typer.Option(help="The folder that keeps the data between runs.")] = Path(
        ".faregate"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the data of earlier runs.")
    ] = False,
) -> None:
    """Run an app for development, with servers, a worker, a demo user and a page.

    It listens on this machine only, and refuses to run in production. Ctrl-C stops everything.

    Example: faregate dev app:app
    """
    development_settings()
    print_line, folder = printer_on(Console()), DevFolder(data.absolute())
    with stopping_on_signals(), ExitStack() as opened:
        asked = (port, "--port"), (page_port, "--page-port")
        sockets = [opened.enter_context(listen(LOOPBACK, *one)) for one in asked]
        if fresh:
            folder.clear()
        servers = opened.enter_context(EmbeddedServers(folder.path))
        settings = settings_for(servers.redis_url, servers.postgres_url)
        token = _prepare(settings, folder)
        worker = Worker(worker_program(settings, folder.worker_log), print_line)
        opened.callback(worker.stop)
        _print_welcome(print_line, folder, token, app, [url_of(one) for one in sockets])
        opened.enter_context(serving(settings, sockets[1]))
        running = App(_app_program(app, sockets[0], settings), Path.cwd(), print_line)
        opened.callback(running.stop)
        while True:
            time.sleep(WATCH_INTERVAL_S)
            for name in servers.watch():
                print_line(f"{name} died, and was started again")
            worker.check()
            running.check()


def settings_for(redis_url: str, postgres_url: str) -> Settings:
    """Return the settings of app and worker: those of the environment, with these servers."""
    forgiving = {
        name: value for name, value in _DEFAULTS.items() if PREFIX + name.upper() not in os.environ
    }
    return development_settings(
        redis_url=redis_url, postgres_url=postgres_url, queue_url="", **forgiving
    )


def _prepare(settings: Settings, folder: DevFolder) -> str:
    """Migrate the schema, write the variables for a shell, and return the token."""
    folder.hide()
    folder.worker_log.unlink(missing_ok=True)
    Migrator(settings.postgres_url).apply(
        shard_count=settings.shard_count, starting_credits=settings.starting_credits
    )
    token = sign_in(settings, folder)
    folder.write_variables(
        {
            "FAREGATE_REDIS_URL": settings.redis_url,
            "FAREGATE_POSTGRES_URL": settings.postgres_url,
            "DEMO_USER": str(DEMO_USER),
            "TOKEN": token,
        }
    )
    return token


def _app_program(app: str, listening: socket, settings: Settings) -> Program:
    number = listening.fileno()
    return Program(
        name="app",
        module="faregate.cli.dev.serving",
        arguments=(str(number), app),
        environment=as_environment(settings),
        log=None,
        inherited=(number,),
    )


def _print_welcome(
    print_line: Callable[[str], None], folder: DevFolder, token: str, app: str, urls: list[str]
) -> None:
    shown = os.path.relpath(folder.variables)
    for line in (
        "For development only: it listens on this machine and refuses to run in production.",
        f"  app    {urls[0]}   {app}, restarts when a file changes",
        f"  page   {urls[1]}   charges, live",
        f"  user   {DEMO_USER}",
        f"  token  {token}",
        f"  data   {os.path.relpath(folder.path)}, kept until --fresh",
        f"  shell  . {shown}   then: faregate history $DEMO_USER",
        f'  try    curl -i -H "Authorization: Bearer $TOKEN" {urls[0]}/',
        "Ctrl-C stops everything.",
    ):
        print_line(line)
