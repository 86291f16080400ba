"""An app of Flask behind the gate, for a WSGI server that forks and has threads.

`python wsgi_app.py PORT` runs it on Flask's own server; gunicorn finds `app`. The field `x-user`
says who calls. It charges once when it is loaded, so that with `--preload` its gate is in use when
gunicorn forks.
"""

import os
import sys
from collections.abc import Iterator
from uuid import UUID

from flask import Flask, Response, request
from starlette.types import Scope
from werkzeug.serving import run_simple

from faregate import Settings, build_sync_gate
from faregate.asgi import KeyUse, Rule, exempt
from faregate.wsgi import FaregateWSGI

PRELOADED = UUID(os.environ["WSGI_APP_USER"])
RULES = [
    *exempt("/healthz"),
    Rule(path="/held", estimate=3),
    Rule(path="/replayed", key_use=KeyUse.OPTIONAL, replay_bytes_max=4_096),
]

gate = build_sync_gate(Settings(provision_users=True))
gate.charge(PRELOADED)
app = Flask(__name__)


@app.get("/healthz")
def healthz() -> str:
    return str(os.getpid())


@app.get("/")
def ok() -> str:
    return str(os.getpid())


@app.get("/failed")
def failed() -> str:
    raise RuntimeError("before the response")


@app.get("/held")
def held() -> str:
    request.environ["faregate.charge"].settle(1)
    return "settled"


@app.get("/streamed")
def streamed() -> Response:
    def chunks() -> Iterator[bytes]:
        for _ in range(16):
            yield bytes(65_536)

    return Response(chunks())


@app.post("/replayed")
def replayed() -> str:
    return str(len(request.get_data()))


def identify(scope: Scope) -> UUID | None:
    return next(
        (UUID(value.decode()) for name, value in scope["headers"] if name == b"x-user"), None
    )


app.wsgi_app = FaregateWSGI(app.wsgi_app, gate, identify, rules=RULES)  # type: ignore[method-assign]

if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
