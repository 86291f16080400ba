"""A proxy as content delivery networks have it: it names the client, and may lose a response."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from waiting import WAIT_S_MAX

#: The address that its requests come from.
ADDRESS = "127.0.0.9"
_HOP_BY_HOP = {"connection", "content-length", "transfer-encoding"}


@dataclass(slots=True)
class EdgeProxy:
    """A proxy before an API."""

    origin_port: int
    port: int = 0
    #: How many responses are still to be lost: the client gets a 502 in place of each.
    responses_to_lose: int = 0
    #: The `X-Forwarded-For` of each request, as it was sent on.
    sent: list[str] = field(default_factory=list)

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """Send a request on, and its response back."""
        client = request.client_address[0]
        fields = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        claimed = fields.get("x-forwarded-for")
        fields["x-forwarded-for"] = f"{claimed}, {client}" if claimed else client
        fields["cf-connecting-ip"] = client
        self.sent.append(fields["x-forwarded-for"])
        origin = http.client.HTTPConnection(
            "127.0.0.1", self.origin_port, timeout=WAIT_S_MAX, source_address=(ADDRESS, 0)
        )
        origin.request("GET", request.path, headers=fields)
        response = origin.getresponse()
        status, body = response.status, response.read()
        origin.close()
        if self.responses_to_lose:
            self.responses_to_lose -= 1
            status, body = 502, b"bad gateway"
        request.send_response(status)
        for name, value in response.getheaders() if status == response.status else ():
            if name.lower() not in _HOP_BY_HOP:
                request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@contextmanager
def edge_proxy(origin_port: int) -> Iterator[EdgeProxy]:
    """Run a proxy before the API on a port."""
    proxy = EdgeProxy(origin_port)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.forward(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy.port = server.server_port
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
