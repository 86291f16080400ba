"""The example of an MCP server with one tool more, as a program: `python mcp_app.py PORT`.

The checkout is in PYTHONPATH. The tool `stuck` costs 2 credits and never ends.
"""

import asyncio
import sys

import uvicorn

from examples.mcp_server import app as example


@example.server.tool()
async def stuck() -> str:
    await asyncio.Event().wait()
    return "never"


if __name__ == "__main__":
    example.COSTS["stuck"] = 2
    uvicorn.run(example.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
