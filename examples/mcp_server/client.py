"""Calls tools of the server: `python client.py http://127.0.0.1:8000/mcp $TOKEN`."""

import asyncio
import sys

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, token: str) -> None:
    """Call a tool that serves, one that fails, and one that costs too much."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        served = await client.call_tool("define", {"word": "fare"})
        print(served.structured_content)
        failed = await client.call_tool("define", {"word": "farewell"})
        print(failed.is_error, failed.content)
        try:
            await client.call_tool("report")
        except MCPError as error:
            print(error.code, error.message, error.data)


asyncio.run(main(*sys.argv[1:]))
