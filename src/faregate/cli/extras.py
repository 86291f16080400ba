"""Packages that come with an extra, so that they may be missing."""

import importlib.util
from pathlib import Path

from faregate.domain.errors import ConfigurationError


def package(name: str, extra: str) -> Path:
    """Find a package that an extra installs, and do not import it.

    Returns:
        Its folder.

    Raises:
        ConfigurationError: It is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(f"{name} is not installed: pip install 'faregate[{extra}]'")
    return Path(found.submodule_search_locations[0])
