"""The example of LLM streaming over a socket: who pays how much, however a stream ends."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from example_rig import Customer
from processes import stopped
from recipe_site import RecipeSite, site_fixture
from waiting import WAIT_S_MAX, wait_for
from wire_client import Api
from worker_process import System

PROGRAM = str(Path(__file__).parents[1] / "llm_app.py")
PAGE = (Path(__file__).parents[2] / "docs/recipe-llm-streaming.md").read_text(encoding="utf-8")
#: Long enough that the hold of a process that is busy is extended; short enough to be waited for.
SHORT_TTL_MS = 3_000


class Stream:
    """A request, and the events of its answer as they come."""

    def __init__(self, api: Api, prompt: str, max_tokens: int = 20, **fields: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=WAIT_S_MAX)
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens})
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        self._connection.request("POST", "/v1/completions", body, headers)
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def event(self) -> str:
        """Wait for the next event; return its data, or nothing at the end."""
        line = self._response.readline().decode()
        assert self._response.readline() in {b"\n", b""}
        return line.removeprefix("data: ").strip()

    def text(self) -> str:
        """The next token."""
        return str(json.loads(self.event())["choices"][0]["text"])

    def rest(self) -> list[str]:
        """Wait for the end; return the data of the events up to it."""
        text = self._response.read().decode().strip()
        return [event.removeprefix("data: ") for event in text.split("\n\n")]

    def close(self) -> None:
        """Leave."""
        self._response.close()
        self._connection.close()


def begin(
    api: Api, user: Customer, prompt: str, max_tokens: int = 20, tier: str = "capped"
) -> Stream:
    """Ask for a stream."""
    return Stream(api, prompt, max_tokens, x_user=str(user.user_id), x_tier=tier)


site = site_fixture("llm_streaming")


@pytest.fixture(scope="module")
def api(site: RecipeSite) -> Iterator[Api]:
    """The example, whose holds outlive each of these tests."""
    with site.serve(PROGRAM, "PORT", "600000") as running:
        yield running


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "tier", "status", "paid"),
    [
        pytest.param("a b usage=9", 20, "capped", 200, 9, id="usage below the estimate"),
        pytest.param("a b cut", 20, "capped", 200, 5, id="no usage: the tokens are counted"),
        pytest.param("fail", 20, "capped", 502, 0, id="fails before its first token"),
        pytest.param("a b fail", 20, "capped", 200, 5, id="fails in the middle"),
        pytest.param("a usage=40", 5, "capped", 200, 40, id="usage above the estimate"),
        pytest.param("a usage=130", 5, "capped", 200, 100, id="usage above the balance, capped"),
        pytest.param("a usage=130", 5, "overdraft", 200, 130, id="usage above it, overdraft"),
        pytest.param("a usage=190", 5, "overdraft", 200, 150, id="usage above the overdraft"),
        pytest.param("a b", 100, "capped", 402, 0, id="more than there is"),
        pytest.param("a b", 0, "capped", 422, 0, id="not valid"),
    ],
)
def test_a_stream_is_settled_at_its_tokens(
    site: RecipeSite, api: Api, prompt: str, max_tokens: int, tier: str, status: int, paid: int
) -> None:
    """The tokens that the model reports or, where it does not, those that were sent."""
    user = site.sign_up()
    with closing(begin(api, user, prompt, max_tokens, tier)) as stream:
        assert stream.status == status
        last = stream.rest()[-1]
        if status == 200:
            failed = '{"error": "the model failed"}'
            assert last == (failed if "fail" in prompt else "[DONE]")
    site.expect(user, paid)


def test_a_client_that_leaves_pays_for_the_part_that_it_was_sent(
    site: RecipeSite, api: Api
) -> None:
    """And for its prompt of four tokens; the model is not asked for more."""
    user = site.sign_up()
    with closing(begin(api, user, f"a b wait={user.user_id} c")) as stream:
        assert [stream.text(), stream.text()] == ["a", "b"]
        assert [hold.amount for hold in site.holds(user)] == [24]
    site.expect(user, 6)


def test_a_stream_ends_while_redis_does_not_answer(site: RecipeSite, api: Api) -> None:
    """It is settled in the background, once Redis is back; nobody waits for that."""
    user = site.sign_up()
    with closing(begin(api, user, f"a wait={user.user_id} b usage=9")) as stream:
        assert stream.text() == "a"
        with stopped(site.redis_pid):
            assert api.ask(f"/release/{user.user_id}", method="POST").status == 200
            assert stream.text() == "b"
            assert json.loads(stream.event())["usage"] == {"total_tokens": 9}
            assert stream.rest() == ["[DONE]"]
            wait_for(lambda: api.ask("/waiting").json() == 1, "the settlement waits")
    site.expect(user, 9)


def test_a_long_stream_stays_held_and_that_of_a_killed_process_expires(site: RecipeSite) -> None:
    """As its policy says: the estimate is given back, or kept."""
    long, given_back, kept = site.sign_up(), site.sign_up(), site.sign_up()
    with site.serve(PROGRAM, "PORT", str(SHORT_TTL_MS)) as api, ExitStack() as streams:

        def begin_one(user: Customer, tier: str) -> Stream:
            stream = begin(api, user, f"a wait={user.user_id} b usage=9", tier=tier)
            assert streams.enter_context(closing(stream)).text() == "a"
            return stream

        stream = begin_one(long, "capped")
        (hold,) = site.holds(long)
        wait_for(lambda: site.holds(long)[0].expires_at > hold.expires_at, "it is extended")
        assert api.ask(f"/release/{long.user_id}", method="POST").status == 200
        assert stream.rest()[-1] == "[DONE]"
        site.expect(long, 9)

        begin_one(given_back, "capped")
        begin_one(kept, "kept")
        api.process.kill()
        settings = site.ledger.settings
        system = System(
            redis_url=settings.redis_url, database_url=settings.postgres_url, log=site.log
        )
        with system.worker():
            site.expect(given_back, 0)
            site.expect(kept, 24)


def test_the_example_streams_as_its_page_shows(site: RecipeSite) -> None:
    """With the model that stands in, and an API key."""
    ((body, shown),) = re.findall(r"^\$ curl [^\n]* -d '([^\n]*)'\n(.*?)^```", PAGE, re.M | re.S)
    user = site.sign_up()
    with site.serve("-m", "uvicorn", "app:app", "--port", "PORT") as api:
        asked = json.loads(body)
        with closing(Stream(api, **asked, authorization=f"Bearer {user.key}")) as stream:
            assert "".join(f"data: {event}\n\n" for event in stream.rest()).strip() == shown.strip()
        site.expect(user, 4)
