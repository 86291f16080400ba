"""Time that moves when a test says so, for the memory adapter and for Redis alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from faregate import testing
from faregate.adapters.redis import runner, scripts, session, wire
from waiting import WAIT_S_MAX

#: 2100-02-28 22:30 UTC, a Sunday: a day, a week and a month without a leap day end soon.
START_MS = 4_107_537_000_000
#: Where the scripts of a test read the time, instead of asking TIME.
NOW_KEY = "test:now_us"
#: Where they note when a key is to go, so that it goes by that time, too.
ENDS_KEY = "test:ends_ms"
_CLOCK = f"""
local function time_us()
  return tonumber(redis.call('GET', '{NOW_KEY}'))
end

local function expire(key, ms)
  redis.call('ZADD', '{ENDS_KEY}', string.format('%.0f', math.floor(time_us() / 1000) + ms), key)
end
"""
#: In a cluster a script reads keys of its own slot only, so each shard has these keys. The script
#: with the most functions has no room for another local variable.
_CLOCK_OF_SLOT = f"""
local time_us, expire
do
  local keys_of_call
  local function named(name)
    return name .. string.match((keys_of_call or KEYS)[1], '{{.-}}')
  end
  time_us = function()
    return tonumber(redis.call('GET', named('{NOW_KEY}')))
  end
  expire = function(key, ms)
    if not ms then
      keys_of_call = key
      return
    end
    local ends_ms = string.format('%.0f', math.floor(time_us() / 1000) + ms)
    redis.call('ZADD', named('{ENDS_KEY}'), ends_ms, key)
  end
end
"""
_NOTE_KEYS = """
do
  local of_call = {0}
  {0} = function(keys, args)
    expire(keys)
    return of_call(keys, args)
  end
end
"""

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
    """The same for scripts, which read it from a key; in a cluster from one for each hash tag."""

    def __init__(self, client: Redis | RedisCluster, tags: Sequence[str] = ("",)) -> None:
        super().__init__()
        self._client: Any = client
        self._tags = tags
        self.advance(0)

    def advance(self, ms: int) -> None:
        super().advance(ms)
        for tag in self._tags:
            self._client.set(NOW_KEY + tag, self.ms * 1_000)
            gone = self._client.zrangebyscore(ENDS_KEY + tag, "-inf", f"({self.ms}")
            if gone:
                self._client.unlink(*gone)
                self._client.zrem(ENDS_KEY + tag, *gone)


class ToldClocks:
    """What a ledger in Redis takes for the time of its shards: the time of the test."""

    #: The clock of the test, and how far the ledger is ahead of it, in milliseconds.
    clock: Clock
    ahead_ms = 0

    def __init__(
        self, shard_count: int, _local: object = None, _elsewhere_us: object = None
    ) -> None:
        self._shard_count = shard_count

    def start(self, server_us: int, last_us: Iterable[int]) -> None:
        """Learn nothing."""

    def observe(self, seen: Iterable[tuple[int, int, int]]) -> None:
        """Learn nothing."""

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return ToldClocks.clock() + ToldClocks.ahead_ms

    def times_ms(self, shards: Iterable[int]) -> list[int]:
        """Return the time for each shard."""
        return [self.now_ms() for _ in shards]


@contextmanager
def patience() -> Iterator[None]:
    """Give Redis all the time of a test: a machine that is busy is no reason to give up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "TRY_S_MAX", WAIT_S_MAX)
        patch.setattr(wire.Wire.__init__, "__kwdefaults__", {"connect_s_max": WAIT_S_MAX})
        yield


@contextmanager
def clock_of_the_test(alter: Alter | None = None, *, is_cluster: bool = False) -> Iterator[None]:
    """Send scripts whose clock is the one of the tests; nothing else differs, unless altered."""
    read, make = scripts._fragment, scripts.make

    def read_fragment(name: str) -> str:
        clock = _CLOCK_OF_SLOT if is_cluster else _CLOCK
        return clock if name == "clock" else read(name)

    def make_altered(name: str, source: str) -> scripts.Script:
        assert "'TIME'" not in source, f"{name} has another clock"
        assert "PEXPIRE" not in source, f"{name} lets keys go by the clock of the server"
        if is_cluster and (function := scripts._FUNCTION.search(source)):
            source += _NOTE_KEYS.format(function["function"])
        return make(name, alter(name, source) if alter else source)

    async def time_us(_runner: object, _endpoint: object) -> int:
        return ToldClocks.clock() * 1_000

    with patience(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "_fragment", read_fragment)
        patch.setattr(scripts, "make", make_altered)
        patch.setattr(session, "ShardClocks", ToldClocks)
        patch.setattr(session, "_time_us", time_us)
        scripts.load.cache_clear()
        try:
            yield
        finally:
            # What was assembled here is sent by no other test.
            scripts.load.cache_clear()
