"""Serves an app of the current folder by uvicorn, on an inherited socket. Run as a program."""

import socket
import sys

import uvicorn

#: How long requests may go on after a file has changed, in seconds.
STOP_S_MAX = 2


def main(number: str, app: str) -> None:
    """Serve until SIGTERM; uvicorn prints errors of the app."""
    config = uvicorn.Config(app, timeout_graceful_shutdown=STOP_S_MAX)
    with socket.socket(fileno=int(number)) as listening:
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
