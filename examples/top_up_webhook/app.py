"""A webhook that grants each purchase once, and takes it back once: `uvicorn app:app`.

The events are those of Stripe: signed, delivered more than once, and in any order.
"""

import hmac
import json
import logging
import os
import re
import time
from typing import Any
from urllib.request import Request as ApiRequest
from urllib.request import urlopen
from uuid import UUID

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from faregate import Decision, FaregateError, Settings, build_gate

SECRET = os.environ["WEBHOOK_SECRET"].encode()
API_URL = os.environ.get("PAYMENTS_API_URL", "https://api.stripe.com")
API_KEY = os.environ.get("PAYMENTS_API_KEY", "")
TOLERANCE_S = 300
BODY_BYTES_MAX = 262_144
PAID = {"checkout.session.completed", "checkout.session.async_payment_succeeded"}
DISPUTED = {"charge.dispute.funds_withdrawn": -1, "charge.dispute.funds_reinstated": 1}

log = logging.getLogger(__name__)
gate = build_gate(Settings())


def is_signed(body: bytes, field: str, now_s: float) -> bool:
    """Whether the sender has signed this body in the last minutes: `t=1700000000,v1=5257a8...`."""
    parts = [(name, value) for name, _, value in (part.partition("=") for part in field.split(","))]
    sent_at = next((value for name, value in parts if name == "t"), "")
    if not re.fullmatch("[0-9]{1,12}", sent_at) or abs(now_s - int(sent_at)) > TOLERANCE_S:
        return False
    expected = hmac.new(SECRET, sent_at.encode() + b"." + body, "sha256").hexdigest().encode()
    signatures = [value.encode() for name, value in parts if name == "v1"]
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


async def webhook(request: Request) -> Response:
    """Answer 2xx only for what is decided: the sender delivers everything else again."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:  # Anybody can send one, as long as it is not checked.
            return PlainTextResponse("the event is too long\n", 413)
    if not is_signed(body, request.headers.get("stripe-signature", ""), time.time()):
        return PlainTextResponse("the signature is not valid\n", 400)
    event = json.loads(body)
    try:
        decision = await handle(event)
    except (FaregateError, OSError):
        log.exception("event %s is not decided", event["id"])
        return PlainTextResponse("try again\n", 503)
    if decision is None:
        return PlainTextResponse("nothing to do\n")
    if not decision.allowed:  # Such as a user who is not known yet.
        log.error("event %s is refused: %s", event["id"], decision.verdict)
        return PlainTextResponse(f"{decision.verdict}\n", 503)
    return PlainTextResponse("known\n" if decision.repeated else "done\n")


async def handle(event: dict[str, Any]) -> Decision | None:
    """Change the balance as an event says; None if it says nothing of it."""
    kind, thing = event["type"], event["data"]["object"]
    if kind in PAID and thing["payment_status"] == "paid":
        purchase = thing["metadata"]
        return await gate.grant(
            UUID(purchase["user"]),
            int(purchase["credits"]),
            idempotency_key=thing["id"],  # The purchase: two events of it grant once.
            description="purchase",
            metadata={"event": event["id"]},
        )
    if kind == "charge.refunded":
        refunded = thing["amount_refunded"]  # The sum of all refunds of the charge.
        before = event["data"].get("previous_attributes", {}).get("amount_refunded", 0)
        credits = part(thing, before) - part(thing, refunded)
        return await adjust(event, thing, credits, f"{thing['id']} refunded {refunded}")
    if kind in DISPUTED:
        charge = await run_in_threadpool(read_charge, thing["charge"])
        credits = DISPUTED[kind] * part(charge, thing["amount"])
        return await adjust(event, charge, credits, f"{thing['id']} {kind}")
    return None


def part(charge: dict[str, Any], amount: int) -> int:
    """Return the credits that an amount of money has bought, of those of the whole charge."""
    return int(charge["metadata"]["credits"]) * amount // int(charge["amount"])


async def adjust(
    event: dict[str, Any], charge: dict[str, Any], credits: int, key: str
) -> Decision | None:
    """Take credits back, even if they are spent, or give them again."""
    if not credits:
        return None
    return await gate.adjust(
        UUID(charge["metadata"]["user"]),
        credits,
        actor="webhook",
        reason=event["type"],
        negative_allowed=True,
        idempotency_key=key,
        metadata={"event": event["id"]},
    )


def read_charge(charge_id: str) -> dict[str, Any]:
    """Ask the sender for a charge: a dispute names it, and does not hold its metadata."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    asked = ApiRequest(f"{API_URL}/v1/charges/{charge_id}", headers=headers)  # noqa: S310
    with urlopen(asked, timeout=10) as response:  # noqa: S310 -- the URL is a setting
        charge: dict[str, Any] = json.load(response)
        return charge


def healthz(_: Request) -> Response:
    """Say that the app runs."""
    return PlainTextResponse("ok\n")


app = Starlette(
    routes=[
        Route("/healthz", healthz),
        Route("/webhooks/payments", webhook, methods=["POST"]),
    ],
    lifespan=gate.lifespan,
)
