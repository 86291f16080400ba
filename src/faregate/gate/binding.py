"""What ties a gate to one event loop and one process.

Connections, tasks and locks belong to the loop and the process that made them, so a call on another
loop, or in a forked process, is refused before anything is sent. A loop that has ended is no other
loop: the gate attaches again, on the one that runs now.
"""

import asyncio
import os

from faregate.domain.errors import ConfigurationError

_OTHER_LOOP = (
    "this gate is in use on another event loop: build a gate for each loop, or close it there first"
)
_FORKED = "this gate was in use when its process was forked: build a gate in each process"
_CLOSED = "this gate is closed; `await gate.start()` opens it again"


class Binding:
    """Remembers the loop and the process of the first use, until it is closed."""

    def __init__(self) -> None:
        self._pid = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False

    def bind(self) -> bool:
        """Bind to the running loop; return whether that is new.

        Raises:
            ConfigurationError: It is bound to another loop or process, or closed.
        """
        loop, pid = asyncio.get_running_loop(), os.getpid()
        if self.is_closed:
            raise ConfigurationError(_CLOSED)
        if loop is self.loop and pid == self._pid:
            return False
        if self.loop is not None and pid != self._pid:
            raise ConfigurationError(_FORKED)
        if self.loop is not None and not self.loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)
        self.loop, self._pid = loop, pid
        return True

    def close(self) -> None:
        """Refuse calls until `is_closed` is taken back, then on whichever loop."""
        self.loop, self.is_closed = None, True
