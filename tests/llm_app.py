"""The example of LLM streaming with a model that does what its prompt says, as a program.

`python llm_app.py PORT HOLD_TTL_MS`, with the folder of the example in PYTHONPATH, runs it until it
is ended. A word of the prompt is a token of the answer, or `wait=KEY` for a POST to `/release/KEY`,
`usage=N` for a report of N tokens, `fail`, or `cut` for an end without usage and `[DONE]`. The
caller is in the field `x-user`, and its tier in `x-tier`.
"""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from uuid import UUID

import app as example
import uvicorn
from language_model import ModelError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from faregate import CreditPolicy, OnExpiry, PolicySet, build_gate
from faregate.asgi import Caller
from faregate.config import read_settings

POLICIES = PolicySet(
    tiers={
        "capped": CreditPolicy(name="capped"),
        "overdraft": CreditPolicy(name="overdraft", overdraft_max=50),
        "kept": CreditPolicy(name="kept", on_expiry=OnExpiry.KEEP),
    },
    default_tier="capped",
)
gate = build_gate(read_settings(), POLICIES)
released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def caller(scope: Scope) -> Caller:
    fields = dict(scope["headers"])
    return Caller(user_id=UUID(fields[b"x-user"].decode()), tier=fields[b"x-tier"].decode())


async def model(prompt: str, _max_tokens: int) -> AsyncIterator[str]:
    for word in prompt.split():
        name, _, value = word.partition("=")
        match name:
            case "wait":
                await released[value].wait()
            case "fail":
                raise ModelError("the model failed")
            case "usage":
                yield json.dumps({"choices": [], "usage": {"total_tokens": int(value)}})
            case "cut":
                return
            case _:
                yield json.dumps({"choices": [{"text": word}]})
    yield "[DONE]"


async def release(request: Request) -> Response:
    released[request.path_params["key"]].set()
    return JSONResponse(None)


async def waiting(_: Request) -> Response:
    """How many settlements are yet to be made in the background."""
    return JSONResponse(gate.health().retries_waiting)


if __name__ == "__main__":
    example.HOLD_TTL_MS = int(sys.argv[2])
    served = example.build_app(gate, caller, model)
    served.routes.append(Route("/release/{key}", release, methods=["POST"]))
    served.routes.append(Route("/waiting", waiting))
    uvicorn.run(served, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
