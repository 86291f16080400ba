"""The parts of a ledger in Redis that belong to one event loop."""

import asyncio
from dataclasses import dataclass, field

from faregate.adapters.redis import access, keys, rights, scripts
from faregate.adapters.redis.balances import BalanceScripts
from faregate.adapters.redis.calls import CallPacker
from faregate.adapters.redis.changes import ChangeScripts
from faregate.adapters.redis.clock import LocalClock, ShardClocks, local_us
from faregate.adapters.redis.flights import Flights
from faregate.adapters.redis.holds import HoldScripts
from faregate.adapters.redis.installer import creation
from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.urls import LEDGER_SETTING
from faregate.adapters.redis.values import ShardState
from faregate.adapters.redis.wire import Wire
from faregate.domain.errors import (
    ConfigurationError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.domain.health import CallCounts
from faregate.domain.identity import LedgerIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """The address of the ledger, and its bounds."""

    #: A URL may hold a password.
    url: str = field(repr=False)
    shard_count: int
    #: How many records of a shard may wait for Postgres.
    pending_max: int
    decision_timeout_ms: int
    #: The clock of this machine.
    local: LocalClock = local_us


class RedisSession:
    """One connection, the lane to it, and the scripts beside the lane."""

    def __init__(self, options: LedgerOptions, counts: CallCounts) -> None:
        timeout_ms, shard_count = options.decision_timeout_ms, options.shard_count
        self.loop = asyncio.get_running_loop()
        self.clocks = ShardClocks(shard_count, options.local)
        self._wire = Wire.from_url(options.url, decision_timeout_ms=timeout_ms)
        self._runner = ScriptRunner(self._wire, self.clocks, shard_count)
        packer = CallPacker(self.clocks, pending_max=options.pending_max, timeout_ms=timeout_ms)
        timeout_s = timeout_ms / 1_000
        flights = Flights(self._wire, packer, self.clocks, counts, timeout_s=timeout_s)
        self.lane = Lane(self._wire, flights, self._runner.shards, timeout_s=timeout_s)
        self.holds = HoldScripts(self._runner)
        self.changes = ChangeScripts(self._runner)
        self.balances = BalanceScripts(self._runner, pending_max=options.pending_max)

    async def attach(self, identity: LedgerIdentity) -> None:
        """Check that Redis belongs to a ledger, and prepare for decisions; see the port."""
        if identity.shard_count != len(self._runner.shards):
            raise ConfigurationError(
                f"the ledger has {identity.shard_count} shards, "
                f"the settings {len(self._runner.shards)}"
            )
        await self._check_rights()
        if not identity.installed:
            await self._create(identity)
        problem = identity.mismatch(await self._identity_fields())
        if problem:
            raise LedgerUninitialisedError(problem)
        for name in scripts.names():
            script = scripts.load(name)
            # A full Redis cannot load a library, but may have it already.
            if not any(await self._runner.command(*script.exists_command)):
                await self._runner.command(*script.load)
        await self._learn_times()

    async def _check_rights(self) -> None:
        """Check the rights of all scripts, since a script without a right stops halfway.

        Raises:
            ConfigurationError: A right is missing, or the login fails.
        """
        load, ask = rights.question(access.GATE.samples)
        try:
            await self._runner.command(*load)
            refused = await self._runner.command(*ask)
        except LedgerUnavailableError as error:
            problem = rights.problem_of(error, access.GATE, LEDGER_SETTING)
            if problem is None:
                raise
            raise problem from error
        rights.check_reply(refused, access.GATE, LEDGER_SETTING)

    async def _create(self, identity: LedgerIdentity) -> None:
        """Create a ledger in an empty Redis; anything else is left to the check that follows."""
        script = scripts.load("create")
        await self._runner.command(*script.load)
        await self._runner.command(*creation(self._runner.shards, identity))

    async def _identity_fields(self) -> dict[str, str]:
        flat = await self._runner.command("HGETALL", self._ledger)
        texts = [part.decode() for part in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def _learn_times(self) -> None:
        packed = await self._runner.command("MGET", *(one.state for one in self._runner.shards))
        if None in packed:
            raise LedgerUninitialisedError("Redis lost a shard: it must be rebuilt")
        last_us = [ShardState.unpack(state).last_us for state in packed]
        self.clocks.start(await self._time_us(), last_us)

    async def _time_us(self) -> int:
        seconds, microseconds = await self._runner.command("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    @property
    def _ledger(self) -> bytes:
        return keys.ledger(len(self._runner.shards))

    async def aclose(self) -> None:
        """Fail all waiting attempts, and close the connection."""
        await self.lane.aclose()
        await self._wire.aclose()
