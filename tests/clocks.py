"""Time that moves when a test says so, for the memory adapter and for Redis alike."""

import time

import pytest
from redis import Redis

from faregate import testing
from faregate.adapters.redis import runner, scripts

#: Where the scripts of a test read the time, instead of asking TIME.
NOW_KEY = "fg:{s00}:test:now_us"
_CLOCK = f"""
local function time_us()
  return tonumber(redis.call('GET', '{NOW_KEY}'))
end
"""
_SERVERS_OWN_ID = "redis.call('XADD', stream_key, '*',"
_ID_OF_THIS_TIME = (
    "redis.call('XADD', stream_key, string.format('%.0f-*', math.floor(now_us / 1000)),"
)


class Clock(testing.Clock):
    """Unix milliseconds, from now on at the pace of the test."""

    def __init__(self) -> None:
        super().__init__(time.time_ns() // 1_000_000 + 500)


class Seconds:
    """Seconds that stand still, until a test moves them on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class RedisClock(Clock):
    """The same for scripts, which read it from a key."""

    def __init__(self, client: Redis) -> None:
        super().__init__()
        self._client = client
        self.advance(0)

    def advance(self, ms: int) -> None:
        super().advance(ms)
        self._client.set(NOW_KEY, self.ms * 1_000)


def use_test_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send scripts whose clock fragment is the one of the tests; nothing else differs."""
    fragment = (scripts.folder() / "lib" / "clock.lua").read_text(encoding="utf-8")

    def load(name: str) -> scripts.Script:
        source = scripts.load(name).source
        assert fragment in source, f"{name} has another clock"
        # The ids of the stream are of the same time.
        source = source.replace(_SERVERS_OWN_ID, _ID_OF_THIS_TIME)
        return scripts.Script(name, source.replace(fragment, _CLOCK))

    monkeypatch.setattr(runner, "load", load)
