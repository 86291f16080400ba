"""Log lines about requests: at most one a second of each kind, since an outage repeats them."""

import logging

from faregate.gate.paced_log import PacedLog

_log = logging.getLogger("faregate.asgi")


class RequestLog:
    """Writes the lines of one middleware. The kind of a line is its text without the values."""

    def __init__(self) -> None:
        self._kinds: dict[str, PacedLog] = {}

    def warning(self, message: str, *values: object) -> None:
        """Log an error that a server or a request caused."""
        self._write(logging.WARNING, message, values)

    def error(self, message: str, *values: object) -> None:
        """Log an error that an operator must correct."""
        self._write(logging.ERROR, message, values)

    def _write(self, level: int, message: str, values: tuple[object, ...]) -> None:
        self._kinds.setdefault(message, PacedLog(_log, level))(message, *values)
