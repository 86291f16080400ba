"""Quart behind the gate: a rule for each path, around `asgi_app`."""

from collections.abc import AsyncGenerator

from quart import Quart, abort, request

from faregate import Settings, build_api_keys, build_gate
from faregate.asgi import ChargeContext, FaregateMiddleware, Rule, exempt, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity

REPORTS = {1: "sales in January"}
RULES = [
    *exempt("/healthz"),
    Rule(path="/reports/{number:int}", cost=2),
    Rule(path="/answers", methods=["POST"], estimate=5),
]

settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
gate = build_gate(settings)
identify = ApiKeyIdentity(build_api_keys(settings))
app = Quart(__name__)
app.asgi_app = FaregateMiddleware(app.asgi_app, gate=gate, identify=identify, rules=RULES)


@app.while_serving
async def lifespan() -> AsyncGenerator[None, None]:
    async with lifespan_of(gate, identify)(app):
        yield


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.get("/reports/<int:number>")
async def report(number: int) -> dict[str, str]:
    if number not in REPORTS:
        abort(404)  # Refunded, as all errors are.
    return {"report": REPORTS[number]}


@app.post("/answers")
async def answer() -> dict[str, object]:
    charge: ChargeContext = request.scope["state"]["faregate"]
    words = await ask_model((await request.get_json())["question"])
    await charge.settle(len(words))  # A credit a word; the rest of the estimate goes back.
    return {"answer": words, "credits": charge.credits}


async def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()
