"""Run as a program: serves an app of the current folder by uvicorn, on an inherited socket."""

import socket
import sys

import uvicorn

#: How long requests may go on once a file has changed.
STOP_S_MAX = 2


def main(number: str, app: str) -> None:
    """Serve until SIGTERM; what keeps the app from being served is printed by uvicorn."""
    config = uvicorn.Config(app, timeout_graceful_shutdown=STOP_S_MAX)
    with socket.socket(fileno=int(number)) as listening:
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
