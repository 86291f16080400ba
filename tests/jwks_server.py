"""An issuer's server on loopback: it publishes keys, and misbehaves as it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from starlette.types import Scope

from clocks import Seconds
from faregate.asgi.identity.jwt import JwksKeys, JwtIdentity
from tokens import AUDIENCE, ISSUER, claims, sign, with_token
from waiting import WAIT_S_MAX

REFRESH_S = 300.0
LIFETIME_S = 900.0
PAUSE_S = 10.0


class JwksServer:
    """Answers every request alike, and counts them."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = b"{}"
        self.headers: dict[str, str] = {}
        #: Whether requests wait until `answer_on` is called.
        self._answers = threading.Event()
        self._answers.set()
        self.paths: list[str] = []
        self.agents: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.agents.append(self.headers["User-Agent"])
                server._answers.wait(WAIT_S_MAX)
                self.send_response(server.status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/jwks.json"

    @property
    def requests(self) -> int:
        """How many requests came so far."""
        return len(self.paths)

    def publish(self, *keys: dict[str, Any]) -> None:
        """Publish these keys, and no others."""
        self.status, self.body = 200, json.dumps({"keys": keys}).encode()

    def hang(self) -> None:
        """Answer nothing until further notice."""
        self._answers.clear()

    def answer_on(self) -> None:
        """Answer what waits, and go on."""
        self._answers.set()

    @contextmanager
    def running(self) -> Iterator["JwksServer"]:
        """Serve in a thread, until the end."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.answer_on()
            self._http.shutdown()
            self._http.server_close()
            thread.join()


def believing_published(
    issuer: JwksServer, clock: Seconds, *algorithms: str, timeout_s: float = WAIT_S_MAX
) -> JwtIdentity:
    """An identity by the keys that the issuer publishes."""
    keys = JwksKeys(
        issuer.url,
        refresh_s=REFRESH_S,
        lifetime_s=LIFETIME_S,
        pause_s=PAUSE_S,
        timeout_s=timeout_s,
        clock=clock,
    )
    return JwtIdentity(
        keys, issuer=ISSUER, audience=AUDIENCE, algorithms=algorithms or ["RS256", "ES256"]
    )


def with_key(key_id: str | None = "a", algorithm: str = "RS256", **changed: Any) -> Scope:
    """A request with a token that names a key."""
    headers = {} if key_id is None else {"kid": key_id}
    return with_token(sign(claims(**changed), algorithm, headers=headers))
