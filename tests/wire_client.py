"""An API behind the gate in a process of its own, and what a client sees of it."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema

from faregate import Settings
from processes import end
from waiting import WAIT_S_MAX, wait_for

SERVERS = ("uvicorn", "hypercorn", "granian")
#: How large the response to `/stream` is.
STREAM_BYTES = 100 * 1_048_576
SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs/problem.schema.json").read_text(encoding="utf-8")
)
PROGRAM = Path(__file__).with_name("wire_app.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came over the wire."""

    status: int
    #: The words after the status.
    reason: str
    #: By name in lower case; values of a field that is sent twice are joined, as lists are.
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Api:
    """An API in a process of its own."""

    server: str
    port: int
    settings: Settings
    process: subprocess.Popen[bytes]

    def ask(
        self,
        path: str,
        user: UUID | None = None,
        method: str = "GET",
        *,
        body: bytes | Iterable[bytes] | None = None,
        **fields: str,
    ) -> Answer:
        """Send one request on a connection of its own; `_` in the name of a field is a hyphen.

        A body in several parts is sent without its length.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S_MAX)
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if user is not None:
            headers["x-user"] = str(user)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            joined: dict[str, str] = {}
            for name, value in response.getheaders():
                known = joined.get(name.lower())
                joined[name.lower()] = value if known is None else f"{known}, {value}"
            return Answer(
                status=response.status,
                reason=response.reason,
                headers=joined,
                body=response.read(),
            )
        finally:
            connection.close()

    def listens(self) -> bool:
        """Whether it accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), WAIT_S_MAX).close()
        except OSError:
            return False
        return True

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return self.ask("/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def api_on(server: str, settings: Settings, log: Path, **variables: str) -> Iterator[Api]:
    """Run the API on a server."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FAREGATE_REDIS_URL": settings.redis_url,
        "FAREGATE_POSTGRES_URL": settings.postgres_url,
        "FAREGATE_PROVISION_USERS": "true",
        **variables,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), server, str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )
    api = Api(server=server, port=port, settings=settings, process=process)
    try:
        wait_for(lambda: api.ready() or process.poll() is not None, f"{server} answers")
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        yield api
    finally:
        end(process)


def check_problem(answer: Answer, status: int, code: str) -> None:
    """A problem that its schema describes, and that nobody stores."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    jsonschema.validate(problem, SCHEMA)
