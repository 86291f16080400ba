"""The middleware where other requests of the user hold its credits."""

import json

from asgi_client import USER, World, answers, call


async def test_a_request_that_lacks_what_is_held_is_asked_to_come_back_soon() -> None:
    """429 and not 402: the balance suffices once the other request is settled."""
    world = World(credits=3, cost=2)
    app = world.around(answers(200))
    hold = await world.gate.hold(USER, 3)
    refused = await call(app)
    assert refused.status == 429
    assert refused.header(b"retry-after") == b"1"
    assert refused.header(b"ratelimit") == b'"credits";r=0'
    assert json.loads(refused.body)["code"] == "credits_held"
    await world.gate.settle(hold, 1)
    assert (await call(app)).status == 200
