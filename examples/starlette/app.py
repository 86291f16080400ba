"""Starlette behind the gate: a rule for each path."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from faregate import Settings, build_api_keys, build_gate
from faregate.asgi import ChargeContext, FaregateMiddleware, Rule, exempt, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity

REPORTS = {1: "sales in January"}
RULES = [
    *exempt("/healthz"),
    Rule(path="/reports/{number:int}", cost=2),
    Rule(path="/answers", methods=["POST"], estimate=5),
]


async def healthz(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def report(request: Request) -> JSONResponse:
    number: int = request.path_params["number"]
    if number not in REPORTS:
        raise HTTPException(404)  # Refunded, as all errors are.
    return JSONResponse({"report": REPORTS[number]})


async def answer(request: Request) -> JSONResponse:
    charge: ChargeContext = request.state.faregate
    words = await ask_model((await request.json())["question"])
    await charge.settle(len(words))  # A credit a word; the rest of the estimate goes back.
    return JSONResponse({"answer": words, "credits": charge.credits})


async def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()


settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
gate = build_gate(settings)
identify = ApiKeyIdentity(build_api_keys(settings))
app = Starlette(
    routes=[
        Route("/healthz", healthz),
        Route("/reports/{number:int}", report),
        Route("/answers", answer, methods=["POST"]),
    ],
    middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify, rules=RULES)],
    lifespan=lifespan_of(gate, identify),
)
