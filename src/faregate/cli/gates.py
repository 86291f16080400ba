"""The gate of a command: that of an application, or one by the settings alone."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from faregate.bootstrap import build_gate
from faregate.config import read_settings
from faregate.domain.errors import ConfigurationError
from faregate.gate import Gate

#: No request waits for a command, so it may wait for servers.
DECISION_TIMEOUT_MS = 10_000

_T = TypeVar("_T")


def load_gate(place: str) -> Gate:
    """Import a gate, or call what makes one: `myapp.gates:gate`.

    Raises:
        ConfigurationError: There is none at this place, or its module or function fails.
    """
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"name a gate as package.module:attribute, not {place!r}")
    # As for every program that imports an application: its folder is the one that we are in.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        gate = found if isinstance(found, Gate) or not callable(found) else found()
    except Exception as error:
        # An application may fail by any error, and it is the one to be corrected.
        raise ConfigurationError(f"no {place}: {type(error).__name__}: {error}") from error
    if not isinstance(gate, Gate):
        raise ConfigurationError(f"{place} is neither a gate nor a function that returns one")
    return gate


def operator_gate(*, makes_users: bool = False) -> Gate:
    """Build a gate by the settings. It keeps no journal, and knows no policies.

    Args:
        makes_users: Whether the settings may say that it makes users; else it makes none.
    """
    settings = read_settings()
    update = {
        "decision_timeout_ms": DECISION_TIMEOUT_MS,
        "provision_users": makes_users and settings.provision_users,
        "journal_dir": "",
    }
    return build_gate(settings.model_copy(update=update))


def ask(gate: Gate, operation: Callable[[Gate], Awaitable[_T]]) -> _T:
    """Start a gate, ask it one thing, and close it."""

    async def started() -> _T:
        try:
            await gate.start()
            return await operation(gate)
        finally:
            await gate.aclose()

    return asyncio.run(started())
