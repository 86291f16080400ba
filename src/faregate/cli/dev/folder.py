"""The folder of `faregate dev`: the data of the servers, a token, and variables for a shell."""

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faregate.cli.servers.server import lock_of

_COMMENT = "# For a shell: each `faregate dev` writes it anew, and it holds while that runs."
_SERVERS = ("redis", "postgres")


@dataclass(frozen=True, slots=True)
class DevFolder:
    """The data that stays between two runs. The servers create the folder."""

    path: Path

    @property
    def worker_log(self) -> Path:
        """The log of the worker."""
        return self.path / "worker.log"

    @property
    def variables(self) -> Path:
        """The file of variables for a shell: `. .faregate/env`."""
        return self.path / "env"

    @property
    def token(self) -> str:
        """The token of the demo user; empty if there is none yet."""
        file = self.path / "token"
        return file.read_text("utf-8").strip() if file.is_file() else ""

    def save_token(self, token: str) -> None:
        """Save a token for the next run."""
        self._write_secret("token", f"{token}\n")

    def hide(self) -> None:
        """Make git ignore the folder."""
        (self.path / ".gitignore").write_text("*\n", encoding="utf-8")

    def write_variables(self, variables: Mapping[str, str]) -> None:
        """Write the file for a shell."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        self._write_secret(self.variables.name, "\n".join([_COMMENT, *lines, ""]))

    def clear(self) -> None:
        """Delete the data and the token of earlier runs, once no process uses them.

        Raises:
            EmbeddedServerError: Another process goes on using them.
        """
        for name in _SERVERS:
            if (self.path / name).is_dir():
                lock = lock_of(self.path / name)
                shutil.rmtree(self.path / name)
                os.close(lock)
        for name in ("token", self.variables.name, self.worker_log.name):
            (self.path / name).unlink(missing_ok=True)

    def _write_secret(self, name: str, text: str) -> None:
        """Write a file atomically that no other user may read."""
        made = self.path / f".{name}"
        made.unlink(missing_ok=True)
        made.touch(mode=0o600, exist_ok=False)
        made.write_text(text, encoding="utf-8")
        made.replace(self.path / name)
