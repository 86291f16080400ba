"""Flask behind the gate: a rule for each path, around `wsgi_app`."""

from flask import Flask, abort, request

from faregate import Settings, build_api_keys, build_sync_gate
from faregate.asgi import Rule, exempt
from faregate.asgi.identity import ApiKeyIdentity
from faregate.wsgi import FaregateWSGI, SyncChargeContext

REPORTS = {1: "sales in January"}
RULES = [
    *exempt("/healthz"),
    Rule(path="/reports/{number:int}", cost=2),
    Rule(path="/answers", methods=["POST"], estimate=5),
]

settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
gate = build_sync_gate(settings)  # Each process makes its own, and closes it at its end.
identify = ApiKeyIdentity(build_api_keys(settings))
app = Flask(__name__)
app.wsgi_app = FaregateWSGI(app.wsgi_app, gate, identify, rules=RULES)


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.get("/reports/<int:number>")
def report(number: int) -> dict[str, str]:
    if number not in REPORTS:
        abort(404)  # Refunded, as all errors are.
    return {"report": REPORTS[number]}


@app.post("/answers")
def answer() -> dict[str, object]:
    charge: SyncChargeContext = request.environ["faregate.charge"]
    words = ask_model(request.get_json()["question"])
    charge.settle(len(words))  # A credit a word; the rest of the estimate goes back.
    return {"answer": words, "credits": charge.credits}


def ask_model(question: str) -> list[str]:
    """Stand for a model that is paid by the word."""
    if not question:
        raise RuntimeError("the model has failed")
    return question.upper().split()
