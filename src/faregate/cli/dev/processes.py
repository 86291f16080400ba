"""The processes of `faregate dev`: the app, which is reloaded, and the worker."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from faregate.cli.child import Child, Program
from faregate.cli.stack import WORKER_RESTARTS_MAX, WORKER_STOP_S_MAX, broken

_APP_STOP_S_MAX = 5.0
#: Folders that are not watched: dependencies, and names that begin with a dot.
_FOREIGN = {"__pycache__", "node_modules", "site-packages", "venv"}

PrintLine = Callable[[str], None]


class App:
    """The app, which is restarted when a file changes, even after it has ended."""

    def __init__(self, program: Program, folder: Path, print_line: PrintLine) -> None:
        """Start the process. `folder` holds its sources."""
        self._program = program
        self._folder = folder
        self._print_line = print_line
        self._sources = sources(folder)
        self._child = Child(program)
        self._is_down = False

    def check(self) -> None:
        """Restart the process if a file has changed; print once that it has ended."""
        found = sources(self._folder)
        if found != self._sources:
            self._print_line(f"{self._newest(found)} has changed: the app is started again")
            self.stop()
            self._sources, self._is_down = found, False
            self._child = Child(self._program)
        elif self._child.exit_status is not None and not self._is_down:
            self._is_down = True
            status = self._child.exit_status
            self._print_line(
                f"the app ended with status {status}: change a file, and it is started again"
            )

    def stop(self) -> None:
        """Stop the process."""
        self._child.stop(_APP_STOP_S_MAX)

    def _newest(self, found: Mapping[Path, int]) -> Path:
        changed = dict(set(found.items()) ^ set(self._sources.items()))
        return max(changed, key=lambda path: changed[path]).relative_to(self._folder)


class Worker:
    """The worker, which is restarted if it dies."""

    def __init__(self, program: Program, print_line: PrintLine) -> None:
        """Start the process."""
        self._program = program
        self._print_line = print_line
        self._child = Child(program)
        self._restarts = 0

    def check(self) -> None:
        """Restart the process if it has ended.

        Raises:
            EmbeddedServerError: The process has ended too often.
        """
        if self._child.exit_status is None:
            return
        if self._restarts >= WORKER_RESTARTS_MAX:
            raise broken(self._child)
        self._restarts += 1
        self._print_line(
            f"the worker ended, and is started again; it says why in {self._program.log}"
        )
        self._child = Child(self._program)

    def stop(self) -> None:
        """Stop the process."""
        self._child.stop(WORKER_STOP_S_MAX)


def sources(folder: Path) -> dict[Path, int]:
    """Return the Python files of an app with their modification times, in nanoseconds."""
    found: dict[Path, int] = {}
    for name, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one[0] != "." and one not in _FOREIGN]
        for path in (Path(name, file) for file in files if file.endswith(".py")):
            try:
                found[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                # An editor is just replacing it.
                continue
    return found
