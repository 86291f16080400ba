"""An API of a language model. A token costs a credit, and the number is known only at the end."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeAlias

from language_model import ModelError, complete, count_tokens
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from faregate import Gate, Settings, build_api_keys, build_gate
from faregate.asgi import ChargeContext, FaregateMiddleware, Rule, charge_endpoint, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity, Identify

#: For how long the credits of a stream are held if this process is killed.
HOLD_TTL_MS = 60_000

#: Streams the answer to a prompt, with so many tokens at most.
Model: TypeAlias = Callable[[str, int], AsyncIterator[str]]


class Asked(BaseModel):
    """The body of a request."""

    prompt: str
    max_tokens: int = Field(default=100, ge=1, le=4_000)


class Choice(BaseModel):
    """A part of the answer."""

    text: str


class Usage(BaseModel):
    """The tokens that the model has used, those of the prompt included."""

    total_tokens: int


class Event(BaseModel):
    """An event of the model's stream."""

    choices: list[Choice]
    usage: Usage | None = None


def build_app(gate: Gate, identify: Identify, model: Model) -> Starlette:
    """Put the gate in front of a model."""

    async def completions(request: Request) -> Response:
        try:
            asked = Asked.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": error.errors(include_url=False)}, 422)
        prompt_tokens = count_tokens(asked.prompt)
        # Holds the most that the answer may cost, or refuses.
        rule = Rule(estimate=prompt_tokens + asked.max_tokens, hold_ttl_ms=HOLD_TTL_MS)
        charge = await charge_endpoint(request, rule)
        charge.cost_so_far = 0
        events = model(asked.prompt, asked.max_tokens)
        try:
            first = await anext(events)
        except ModelError as error:
            # Nothing is sent yet, so the status can still say it. The hold is refunded.
            return JSONResponse({"error": str(error)}, 502)
        stream = metered(charge, prompt_tokens, first, events)
        return StreamingResponse(stream, media_type="text/event-stream")

    charged = Middleware(
        FaregateMiddleware, gate=gate, identify=identify, rules=[Rule(is_deferred=True)]
    )
    return Starlette(
        routes=[Route("/v1/completions", completions, methods=["POST"])],
        middleware=[charged],
        lifespan=lifespan_of(gate, identify),
    )


async def metered(
    charge: ChargeContext, tokens: int, first: str, rest: AsyncIterator[str]
) -> AsyncGenerator[str]:
    """Pass events on, and update the cost of the request before each one."""
    data = first
    try:
        while data != "[DONE]":
            event = Event.model_validate_json(data)
            tokens += sum(count_tokens(choice.text) for choice in event.choices)
            charge.cost_so_far = event.usage.total_tokens if event.usage else tokens
            yield f"data: {data}\n\n"
            data = await anext(rest, "[DONE]")
    except ModelError as error:
        data = json.dumps({"error": str(error)})
    yield f"data: {data}\n\n"


settings = Settings()
app = build_app(build_gate(settings), ApiKeyIdentity(build_api_keys(settings)), complete)
