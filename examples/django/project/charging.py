"""Who is charged, and what for: the same under ASGI and WSGI."""

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from faregate import Settings, build_api_keys
from faregate.asgi import ChargeContext, Rule, exempt
from faregate.asgi.identity import ApiKeyIdentity
from faregate.wsgi import SyncChargeContext

RULES = [
    *exempt("/healthz"),
    Rule(path="/reports/{number:int}", cost=2),
    Rule(path="/answers", methods=["POST"], estimate=5),
]

settings = Settings()  # FAREGATE_REDIS_URL, FAREGATE_POSTGRES_URL, ...
identify = ApiKeyIdentity(build_api_keys(settings))


def settle(request: HttpRequest, actual: int) -> int:
    """Settle the hold of a request, and return the credits that are left."""
    if isinstance(request, ASGIRequest):
        context: ChargeContext = request.scope["state"]["faregate"]
        async_to_sync(context.settle)(actual)
        return context.credits
    charge: SyncChargeContext = request.META["faregate.charge"]
    charge.settle(actual)
    return charge.credits
