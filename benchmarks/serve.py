"""An app under uvicorn: `python -m benchmarks.serve FRAMEWORK VARIANT PORT REDIS_URL POSTGRES_URL`.

On plain asyncio, as users have it by default, and with httptools. It ends with its input.
"""

import asyncio
import json
import sys

import uvicorn

from benchmarks.apps import APPS
from benchmarks.servers import Place

_POLL_S = 0.01


async def main(framework: str, variant: str, port: int, place: Place) -> None:
    """Serve until there is no more input."""
    config = uvicorn.Config(
        await APPS[variant](framework, place),
        port=port,
        loop="asyncio",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():  # noqa: ASYNC110 - it has no event for that.
        await asyncio.sleep(_POLL_S)
    if server.started:
        print(json.dumps({"port": port}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    _, framework, variant, port, redis_url, postgres_url = sys.argv
    place = Place(redis_url=redis_url, postgres_url=postgres_url)
    asyncio.run(main(framework, variant, int(port), place))
