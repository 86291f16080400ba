"""The gate of a command: that of an application, or one from the settings alone."""

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

#: A command may wait longer for servers than a request.
DECISION_TIMEOUT_MS = 10_000

_T = TypeVar("_T")


def load_gate(place: str) -> Gate:
    """Import a gate, or a function that makes one: `myapp.gates:gate`.

    Raises:
        ConfigurationError: There is no gate of this name, or its module or function fails.
    """
    module_name, _, attribute = place.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"name a gate as package.module:attribute, not {place!r}")
    # The application is imported from the current folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        gate = found if isinstance(found, Gate) or not callable(found) else found()
    except Exception as error:
        # An application may raise any error.
        raise ConfigurationError(f"no {place}: {type(error).__name__}: {error}") from error
    if not isinstance(gate, Gate):
        raise ConfigurationError(f"{place} is neither a gate nor a function that returns one")
    return gate


def operator_gate(*, makes_users: bool = False) -> Gate:
    """Build a gate from the settings, without a journal and without policies.

    Args:
        makes_users: Whether the setting of provisioning applies; else it creates no user.
    """
    settings = read_settings()
    update = {
        "decision_timeout_ms": DECISION_TIMEOUT_MS,
        "provision_users": makes_users and settings.provision_users,
        "journal_dir": "",
    }
    return build_gate(settings.model_copy(update=update))


def ask(gate: Gate, operation: Callable[[Gate], Awaitable[_T]]) -> _T:
    """Start a gate, run one operation, and close it."""

    async def started() -> _T:
        try:
            await gate.start()
            return await operation(gate)
        finally:
            await gate.aclose()

    return asyncio.run(started())
