"""Time that moves when a test says so, for the memory adapter and for Redis alike."""

from collections.abc import Callable
from functools import cache

import pytest
from redis import Redis

from faregate import testing
from faregate.adapters.redis import runner, scripts, stream, sweeper

#: 2100-02-28 22:30 UTC, a Sunday: a day, a week and a month without a leap day end soon.
START_MS = 4_107_537_000_000
#: Where the scripts of a test read the time, instead of asking TIME.
NOW_KEY = "fg:{s00}:test:now_us"
#: Where they note when a key is to go, so that it goes by that time, too.
ENDS_KEY = "fg:{s00}:test:ends_ms"
_CLOCK = f"""
local function time_us()
  return tonumber(redis.call('GET', '{NOW_KEY}'))
end

local function expire_in(key, ms)
  if redis.call('EXISTS', key) == 1 then
    redis.call('ZADD', '{ENDS_KEY}', string.format('%.0f', math.floor(time_us() / 1000) + ms), key)
  end
end
"""
_OF_THIS_TIME = {
    "redis.call('XADD', stream_key, '*',": (
        "redis.call('XADD', stream_key, string.format('%.0f-*', math.floor(now_us / 1000)),"
    ),
    "redis.call('PEXPIRE', ": "expire_in(",
    ", 'PX', math.ceil(limit.ahead_us / 1000))": (
        ") expire_in(limit.key, math.ceil(limit.ahead_us / 1000))"
    ),
    ", 'PX', keep_ms)": ") expire_in(KEYS[3], keep_ms)",
}

#: Changes the source of a script, by its name.
Alter = Callable[[str, str], str]


class Clock(testing.Clock):
    """Unix milliseconds, at the pace of the test."""

    def __init__(self) -> None:
        super().__init__(START_MS)


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
        gone = self._client.zrangebyscore(ENDS_KEY, "-inf", f"({self.ms}")
        if gone:
            self._client.unlink(*gone)
            self._client.zrem(ENDS_KEY, *gone)


def use_test_clock(monkeypatch: pytest.MonkeyPatch, alter: Alter | None = None) -> None:
    """Send scripts whose clock is the one of the tests; nothing else differs, unless altered."""
    fragment = (scripts.folder() / "lib" / "clock.lua").read_text(encoding="utf-8")

    @cache
    def load(name: str) -> scripts.Script:
        source = scripts.load(name).source
        assert fragment in source, f"{name} has another clock"
        source = source.replace(fragment, _CLOCK)
        for old, new in _OF_THIS_TIME.items():
            source = source.replace(old, new)
        assert "PEXPIRE" not in source, f"{name} lets keys go by the clock of the server"
        assert "'PX'" not in source, f"{name} lets keys go by the clock of the server"
        return scripts.Script(name, alter(name, source) if alter else source)

    for module in (runner, stream, sweeper):
        monkeypatch.setattr(module, "load", load)
