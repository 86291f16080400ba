"""The example of an MCP server over a socket, as the client of the official SDK sees it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

from example_rig import Customer
from recipe_site import RecipeSite, site_fixture
from waiting import WAIT_S_MAX, until
from wire_client import Api

PROGRAM = str(Path(__file__).parents[1] / "mcp_app.py")
#: Sessions with a stream of the server and an end; and since 2026 requests that stand alone.
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28"}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "a test", "version": "1"},
}

PAGE = (Path(__file__).parents[2] / "docs/recipe-mcp.md").read_text(encoding="utf-8")

both_modes = pytest.mark.parametrize("mode", MODES)


site = site_fixture("mcp_server")


@pytest.fixture(scope="module")
def api(site: RecipeSite) -> Iterator[Api]:
    """The example."""
    with site.serve(PROGRAM, "PORT") as running:
        yield running


@pytest.fixture
def user(site: RecipeSite) -> Customer:
    """Somebody new."""
    return site.sign_up()


@asynccontextmanager
async def http(key: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of HTTP that sends an API key."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=WAIT_S_MAX) as client:
        yield client


@asynccontextmanager
async def connected(api: Api, key: str, mode: str) -> AsyncGenerator[Client]:
    """The client of the SDK, once it has begun."""
    async with http(key) as sending:
        transport = streamable_http_client(f"http://127.0.0.1:{api.port}/mcp", http_client=sending)
        async with Client(transport, mode=mode) as client:
            yield client


@both_modes
async def test_only_calls_of_tools_cost_credits_and_each_tool_has_its_own_cost(
    site: RecipeSite, api: Api, user: Customer, mode: str
) -> None:
    """A failed call costs nothing either, though its response is HTTP 200."""

    async def paid(name: str, **arguments: Any) -> tuple[int, bool]:
        before = site.credits(user)
        result = await client.call_tool(name, arguments)
        return before - site.credits(user), result.is_error

    async with connected(api, user.key, mode) as client:
        assert client.protocol_version == MODES[mode]
        assert {tool.name for tool in (await client.list_tools()).tools} > {"define", "report"}
        if mode == "legacy":
            with pytest.warns(MCPDeprecationWarning):
                await client.send_ping()
        else:
            told = (client.server_capabilities.extensions or {})["com.example/tool-costs"]
            assert told["credits"]["report"] == 5
        assert await paid("languages") == (0, False)
        assert await paid("define", word="fare") == (1, False)
        assert await paid("translate", text="three more words") == (3, False)
        assert await paid("report") == (5, False)
        assert await paid("define", word="nothing") == (0, True)
        assert await paid("define") == (0, True)
        assert await paid("unknown") == (0, True)
    site.expect(user, 9)
    assert site.charges(user) == [-1, -1, -2, -5, -1, 1, -1, 1]


@both_modes
async def test_a_refusal_is_an_error_that_the_client_reads(
    site: RecipeSite, api: Api, user: Customer, mode: str
) -> None:
    """With the numbers; what the tool has charged so far goes back."""
    async with connected(api, user.key, mode) as client:
        with pytest.raises(MCPError, match="This costs 100 credits, and 99 are left") as refused:
            await client.call_tool("translate", {"text": "word " * 101})
    assert refused.value.code == 402
    assert refused.value.data == {"code": "out_of_credits", "cost": 100, "credits": 99}
    site.expect(user, 0)


@both_modes
async def test_concurrent_calls_take_no_more_than_there_is(
    site: RecipeSite, api: Api, user: Customer, mode: str
) -> None:
    """Each is served and paid for, or refused."""
    async with connected(api, user.key, mode) as client:
        calls = [client.call_tool("report") for _ in range(24)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, MCPError) for result in results) == 4
    site.expect(user, 100)


@both_modes
async def test_a_call_that_its_client_cancels_is_given_back(
    site: RecipeSite, api: Api, user: Customer, mode: str
) -> None:
    """It was charged when it began."""
    async with connected(api, user.key, mode) as client:
        call = asyncio.create_task(client.call_tool("stuck"))
        await until(lambda: site.credits(user) == 98, "the call is charged")
        call.cancel()
        await until(lambda: site.credits(user) == 100, "the call is given back")
    site.expect(user, 0)


@both_modes
async def test_messages_that_call_no_tool_cost_nothing(
    site: RecipeSite, api: Api, user: Customer, mode: str
) -> None:
    """Batches, which MCP no longer has, notifications, streams of the server, ends of sessions."""
    url = f"http://127.0.0.1:{api.port}/mcp"
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "report"}}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    async with http(user.key) as client:
        client.headers["accept"] = "application/json, text/event-stream"
        client.headers["mcp-protocol-version"] = MODES[mode]
        if mode == "legacy":
            asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
            begun = await client.post(url, json=asked)
            client.headers["mcp-session-id"] = begun.headers["mcp-session-id"]
        assert (await client.post(url, json=[call, call])).status_code == 400
        assert (await client.post(url, json=cancelled)).status_code == 202
        async with client.stream("GET", url) as stream:
            assert stream.status_code == (200 if mode == "legacy" else 405)
        assert (await client.delete(url)).status_code == (200 if mode == "legacy" else 405)
    site.expect(user, 0)
    assert site.charges(user) == []


@both_modes
async def test_a_caller_whom_nobody_knows_gets_no_session(
    site: RecipeSite, api: Api, mode: str
) -> None:
    """The SDK reads no problem of HTTP, so refusals of tools are errors of JSON-RPC."""
    with pytest.raises(ExceptionGroup) as failed:
        async with connected(api, "unknown", mode):
            pass
    (error,) = leaves(failed.value)
    assert str(error) == "Server returned an error response"
    async with http("unknown") as client:
        assert (await client.post(f"http://127.0.0.1:{api.port}/mcp")).status_code == 401


def test_the_client_of_the_page_sees_what_it_shows(site: RecipeSite, api: Api) -> None:
    """With a user who has the credits to start with."""
    (shown,) = re.findall(r"^\$ python client.py [^\n]*\n(.*?)^```", PAGE, re.M | re.S)
    user = site.sign_up(credits=3)
    url = f"http://127.0.0.1:{api.port}/mcp"
    done = subprocess.run(
        [sys.executable, "client.py", url, user.key],
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert done.stdout == shown, done.stderr
    site.expect(user, 1)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors within groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]
