"""An MCP server whose tools cost credits, each its own number. All other messages cost nothing."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from anyio import CancelScope
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolRequestParams, CallToolResult
from starlette.applications import Starlette
from starlette.middleware import Middleware

from faregate import FaregateError, Settings, Verdict, build_api_keys, build_gate
from faregate.asgi import CORS_PREFLIGHT, ChargeContext, FaregateMiddleware, Rule, lifespan_of
from faregate.asgi.identity import ApiKeyIdentity

#: What a call of each tool costs, in credits. A tool that is not here is free.
COSTS = {"define": 1, "translate": 1, "report": 5}
WORDS = {"fare": "money that a passenger pays"}


class ToolCosts(Extension):
    """Charges each call of a tool, and refunds a call that fails."""

    identifier = "com.example/tool-costs"

    def __init__(self, costs: Mapping[str, int]) -> None:
        self._costs = costs

    def settings(self) -> dict[str, Any]:
        """Tell clients the costs, among the capabilities of the server."""
        return {"credits": dict(self._costs)}

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Charge, call the tool, and refund unless it has succeeded."""
        charge = charge_of(ctx.request)
        if cost := self._costs.get(params.name, 0):
            await spend(charge, cost, f"tool {params.name}")
        is_served = False
        try:
            result = await call_next(ctx)
            # Over HTTP a tool that fails answers 200, too. One that needs input is called again.
            is_served = isinstance(result, CallToolResult) and not result.is_error
            return result
        finally:
            if not is_served:
                # Also where the client has cancelled the call.
                with CancelScope(shield=True):
                    for decision in charge.added:
                        await charge.gate.refund(decision, description=f"{params.name} failed")


def charge_of(request: Any) -> ChargeContext:
    """Return the charge of the HTTP request that brought a message."""
    charge: ChargeContext = request.state.faregate
    return charge


async def spend(charge: ChargeContext, cost: int, description: str) -> None:
    """Charge the caller of a tool.

    Raises:
        MCPError: It is refused. The client gets this error for its call.
    """
    try:
        decision = await charge.add(cost, description=description)
    except FaregateError as error:
        raise MCPError(503, "Credits cannot be checked now") from error
    if not decision.allowed:
        code = 402 if decision.verdict is Verdict.OUT_OF_CREDITS else 429
        told = {"code": str(decision.verdict), "cost": cost, "credits": decision.credits}
        raise MCPError(code, f"This costs {cost} credits, and {decision.credits} are left", told)


server = MCPServer("dictionary", extensions=[ToolCosts(COSTS)])


@server.tool()
async def languages() -> list[str]:
    """List the languages; free."""
    return ["en", "de"]


@server.tool()
async def define(word: str) -> str:
    """Define a word."""
    if word not in WORDS:
        raise ToolError(f"nobody knows {word!r}")
    return WORDS[word]


@server.tool()
async def translate(text: str, ctx: Context[Any, Any]) -> str:
    """Translate a text; each word after the first costs a credit more."""
    charge = charge_of(ctx.request_context.request)
    if more := len(text.split()) - 1:
        await spend(charge, more, "words of a translation")
    return text.upper()


@server.tool()
async def report() -> str:
    """Write a report."""
    return "All is well."


settings = Settings()
gate = build_gate(settings)
identify = ApiKeyIdentity(build_api_keys(settings))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Run the gate and the sessions of MCP."""
    async with lifespan_of(gate, identify)(app), server.session_manager.run():
        yield


# A cost of 0: each request needs a caller, and counts for rate limits. Its tool is charged later.
RULES = [CORS_PREFLIGHT, Rule(cost=0)]
app = Starlette(
    routes=server.streamable_http_app().routes,
    middleware=[Middleware(FaregateMiddleware, gate=gate, identify=identify, rules=RULES)],
    lifespan=lifespan,
)
