"""`faregate renew`: begins the new periods of idle users, by the policies of an application."""

import asyncio
import importlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from faregate.cli.conventions import Json, tell
from faregate.cli.display import error_console
from faregate.domain.errors import ConfigurationError
from faregate.gate import Gate
from faregate.ops.renew import Renewal, renew_all


def load_gate(place: str) -> Gate:
    """Import a gate, or call what makes one: `myapp.gates:gate`.

    Raises:
        ConfigurationError: There is none at this place.
    """
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"name a gate as package.module:attribute, not {place!r}")
    # As for every program that imports an application: its folder is the one that we are in.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"there is no {place}: {error}") from error
    gate = found if isinstance(found, Gate) or not callable(found) else found()
    if not isinstance(gate, Gate):
        raise ConfigurationError(f"{place} is neither a gate nor a function that returns one")
    return gate


def renew(
    gate: Annotated[str, typer.Argument(help="Your gate: package.module:attribute.")],
    *,
    as_json: Json = False,
) -> None:
    """Begin the new periods of users who make no requests, so that Postgres is current.

    Nothing depends on it, and it can be run at any time, by several at once.
    """
    result = asyncio.run(_renew(load_gate(gate), error_console()))
    line = f"{result.renewed} of {result.users} users renewed: {result.credits} credits"
    tell(asdict(result), [line], as_json=as_json)


async def _renew(gate: Gate, console: Console) -> Renewal:
    try:
        with console.status("renewing") as progress:
            return await renew_all(gate, lambda done: progress.update(f"looked at {done} users"))
    finally:
        await gate.aclose()
