"""Sockets that listen before their program runs."""

import errno
import socket

from faregate.domain.errors import InvalidArgumentError

LOOPBACK = "127.0.0.1"
#: How many connections may wait until a program accepts them.
BACKLOG_MAX = 1_024


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Return a listening socket; port 0 means any free port. The error names the option.

    Raises:
        InvalidArgumentError: The port is in use, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG_MAX)
    except OSError as error:
        why = f"cannot listen on {host} port {port}"
        if error.errno == errno.EADDRINUSE:
            why += f", which is in use: end its process, or choose another port by {option}"
        else:
            why += f": {error.strerror}"
        raise InvalidArgumentError(why) from error


def url_of(listening: socket.socket) -> str:
    """Return the URL of the server on a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
