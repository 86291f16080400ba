"""FastAPI behind the gate: each endpoint says what it costs, and OpenAPI lists the refusals."""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from faregate import Settings, build_api_keys, build_gate
from faregate.asgi import Charge, ChargeContext, FaregateMiddleware, Rule, charged, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity

REPORTS = {1: "sales in January"}

settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
gate = build_gate(settings)
identify = ApiKeyIdentity(build_api_keys(settings))
app = FastAPI(lifespan=lifespan_of(gate, identify))
app.add_middleware(FaregateMiddleware, gate=gate, identify=identify, rules=[Rule(is_deferred=True)])


class Report(BaseModel):
    report: str
    credits: int


class Question(BaseModel):
    question: str


class Answer(BaseModel):
    answer: list[str]
    credits: int


@app.get("/healthz")
async def healthz() -> str:
    return "ok"  # Free, as each endpoint that names no cost.


@app.get("/reports/{number}", responses=Charge.responses)
async def report(number: int, charge: Annotated[ChargeContext, Depends(Charge(cost=2))]) -> Report:
    if number not in REPORTS:
        raise HTTPException(404)  # Refunded, as all errors are.
    return Report(report=REPORTS[number], credits=charge.credits)


@app.post("/answers", responses=Charge.responses)
@charged(estimate=5)  # Once the body is valid.
async def answer(body: Question, request: Request) -> Answer:
    charge: ChargeContext = request.state.faregate
    words = await ask_model(body.question)
    await charge.settle(len(words))  # A credit a word; the rest of the estimate goes back.
    return Answer(answer=words, credits=charge.credits)


async def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()
