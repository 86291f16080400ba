"""Litestar behind the gate: a rule for each path, by DefineMiddleware."""

from dataclasses import dataclass
from typing import Any

from litestar import Litestar, MediaType, Request, get, post
from litestar.exceptions import NotFoundException
from litestar.middleware import DefineMiddleware

from faregate import Settings, build_api_keys, build_gate
from faregate.asgi import ChargeContext, FaregateMiddleware, Rule, exempt, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity

REPORTS = {1: "sales in January"}
RULES = [
    *exempt("/healthz"),
    Rule(path="/reports/{number:int}", cost=2),
    Rule(path="/answers", methods=["POST"], estimate=5),
]


@dataclass
class Question:
    question: str


@get("/healthz", media_type=MediaType.TEXT)
async def healthz() -> str:
    return "ok"


@get("/reports/{number:int}")
async def report(number: int) -> dict[str, str]:
    if number not in REPORTS:
        raise NotFoundException  # Refunded, as all errors are.
    return {"report": REPORTS[number]}


@post("/answers", status_code=200)
async def answer(data: Question, request: Request[Any, Any, Any]) -> dict[str, object]:
    charge: ChargeContext = request.scope["state"]["faregate"]
    words = await ask_model(data.question)
    await charge.settle(len(words))  # A credit a word; the rest of the estimate goes back.
    return {"answer": words, "credits": charge.credits}


async def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()


settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
gate = build_gate(settings)
identify = ApiKeyIdentity(build_api_keys(settings))
app = Litestar(
    route_handlers=[healthz, report, answer],
    middleware=[DefineMiddleware(FaregateMiddleware, gate=gate, identify=identify, rules=RULES)],
    lifespan=[lifespan_of(gate, identify)],
)
