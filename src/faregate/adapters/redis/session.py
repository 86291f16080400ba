"""The parts of a ledger in Redis that belong to one event loop."""

import asyncio
import logging
from dataclasses import dataclass, field

from faregate.adapters.redis import access, keys, rights, scripts
from faregate.adapters.redis.answer_search import AnswerSearch
from faregate.adapters.redis.balances import BalanceScripts
from faregate.adapters.redis.calls import CallPacker
from faregate.adapters.redis.changes import ChangeScripts
from faregate.adapters.redis.clock import LocalClock, ShardClocks, local_us
from faregate.adapters.redis.confirming import Confirmation
from faregate.adapters.redis.connections import Connections
from faregate.adapters.redis.flights import Flights
from faregate.adapters.redis.holds import HoldScripts
from faregate.adapters.redis.installer import creation
from faregate.adapters.redis.lane import Lane
from faregate.adapters.redis.nodes import Endpoint, Nodes
from faregate.adapters.redis.resending import Resending
from faregate.adapters.redis.runner import ScriptRunner
from faregate.adapters.redis.topology import Node
from faregate.adapters.redis.urls import LEDGER_SETTING
from faregate.adapters.redis.values import ShardState
from faregate.adapters.redis.wire import SILENCE_S_MIN, SILENT_TIMEOUTS_MAX, Wire
from faregate.domain.durability import Durability
from faregate.domain.errors import (
    ConfigurationError,
    LedgerUnavailableError,
    LedgerUninitialisedError,
)
from faregate.domain.health import CallCounts
from faregate.domain.identity import LedgerIdentity
from faregate.domain.redis_url import RedisUrl

_log = logging.getLogger(__name__)


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
    """The servers of the ledger, and the scripts beside the lanes."""

    def __init__(self, options: LedgerOptions, counts: CallCounts) -> None:
        url = RedisUrl.parse(options.url)
        self.loop = asyncio.get_running_loop()
        self._options, self._counts = options, counts
        self._is_cluster = url.is_cluster
        self._shards = keys.shards(options.shard_count)
        self._connections = Connections(url)
        self._timeout_s = options.decision_timeout_ms / 1_000
        self.nodes = Nodes(url, self._shards, self._endpoint, close_delay_s=2 * self._timeout_s)
        self._resending = Resending(self.nodes)
        self._runner = ScriptRunner(self._resending, self._shards, is_cluster=url.is_cluster)
        self.lost = AnswerSearch(self._shards, self._runner.command, counts)
        # A new primary may lack what the former one had answered.
        self.nodes.on_moved = self.lost.start_search
        self.nodes.open()
        self.holds = HoldScripts(self._runner)
        self.changes = ChangeScripts(self._runner)
        self.balances = BalanceScripts(self._runner, pending_max=options.pending_max)

    def _endpoint(self, node: Node | None) -> Endpoint:
        """Make the endpoint of a node of a cluster, or of the only server; nothing connects."""
        name = self._connections.name if node is None else node.name
        local = self._options.local
        clocks = ShardClocks(len(self._shards), local, lambda: 1_000 * self.now_ms())
        wire, lane = self._lane(name, node, clocks)

        def confirmed(durability: Durability) -> Endpoint:
            confirmation = Confirmation(durability, self._options.decision_timeout_ms)
            own = self._lane(f"{name} ({durability})", node, clocks, confirmation)
            return Endpoint(node, own[0], clocks, own[1])

        return Endpoint(node, wire, clocks, lane, confirmed)

    def _lane(
        self,
        name: str,
        node: Node | None,
        clocks: ShardClocks,
        confirmation: Confirmation | None = None,
    ) -> tuple[Wire, Lane]:
        """Make a lane to a server, and its connection."""
        timeout_ms, timeout_s = self._options.decision_timeout_ms, self._timeout_s
        wire = Wire(
            self._connections.to(node),
            silence_s_max=max(SILENT_TIMEOUTS_MAX * timeout_s, SILENCE_S_MIN),
            on_trouble=self.nodes.read_soon,
            log_of_new_link=self.lost.log_of_new_link,
            confirmation=confirmation,
        )
        packer = CallPacker(
            clocks,
            pending_max=self._options.pending_max,
            timeout_ms=timeout_ms,
            is_cluster=self._is_cluster,
        )
        flights = Flights(
            wire, packer, clocks, self._resending.ask, self._counts, timeout_s=timeout_s
        )
        return wire, Lane(name, wire, flights, self._shards, timeout_s=timeout_s)

    def now_ms(self) -> int:
        """Return a time that the clocks of all known servers have reached; 0 if none is known."""
        known = (endpoint.clocks.now_ms() for endpoint in self.nodes.endpoints)
        return min(filter(None, known), default=0)

    async def attach(self, identity: LedgerIdentity) -> None:
        """Check that Redis belongs to a ledger, and prepare for decisions; see the port."""
        if identity.shard_count != len(self._shards):
            raise ConfigurationError(
                f"the ledger has {identity.shard_count} shards, the settings {len(self._shards)}"
            )
        await self.nodes.read()
        answering, fields = await self._identity()
        if not identity.installed:
            await self._create(identity)
            fields = await _identity_fields(self._runner, self._shards[0])
        problem = identity.mismatch(fields)
        if problem:
            raise LedgerUninitialisedError(problem)
        await self._prepare(answering)
        others = [endpoint for endpoint in self.nodes.endpoints if endpoint is not answering]
        await asyncio.gather(*map(self._prepare_other, others))

    async def _identity(self) -> tuple[Endpoint, dict[str, str]]:
        """Return the identity of the ledger in Redis, and the server that told it.

        That of shard 0 counts; where its server does not answer, that of another shard.
        """
        failure: LedgerUnavailableError | None = None
        first_of: dict[Endpoint, keys.Shard] = {}
        for shard in self._shards:
            first_of.setdefault(self.nodes.of(shard), shard)
        for endpoint, shard in first_of.items():
            try:
                await _check_rights(self._runner, endpoint)
                return endpoint, await _identity_fields(self._runner, shard)
            except LedgerUnavailableError as error:
                failure = failure or error
        raise failure or LedgerUnavailableError("no server of the ledger is known")

    async def _prepare_other(self, endpoint: Endpoint) -> None:
        """Prepare a server that the start does not depend on.

        If it does not answer, its shards fail until it does, and its clock is learnt by then.
        """
        try:
            await _check_rights(self._runner, endpoint)
            await self._prepare(endpoint)
        except LedgerUninitialisedError:
            raise
        except LedgerUnavailableError as error:
            _log.warning("started without %s: %s", endpoint.lane.name, error)

    async def _prepare(self, endpoint: Endpoint) -> None:
        """Load all scripts into a server, and learn its time and those of its shards."""
        for name in scripts.names():
            script = scripts.load(name)
            # A full Redis cannot load a library, but may have it already.
            if not any(await self._runner.command_at(endpoint, *script.exists_command)):
                await self._runner.command_at(endpoint, *script.load)
        last_us = [0] * len(self._shards)
        for shard in self._shards:
            if self.nodes.of(shard) is endpoint:
                last_us[shard.number] = await self._last_us(shard)
        endpoint.clocks.start(await _time_us(self._runner, endpoint), last_us)

    async def _create(self, identity: LedgerIdentity) -> None:
        """Create a ledger in an empty Redis; anything else is left to the check that follows."""
        # That of shard 0 comes last: with it Redis knows the ledger.
        for shard in reversed(self._shards):
            await self._runner.command(shard, *creation(shard, identity), script="create")

    async def _last_us(self, shard: keys.Shard) -> int:
        packed = await self._runner.command(shard, "GET", shard.state)
        if packed is None:
            raise LedgerUninitialisedError("Redis lost a shard: it must be rebuilt")
        return ShardState.unpack(packed).last_us

    async def aclose(self) -> None:
        """Fail all waiting attempts, and close all connections."""
        await self.lost.aclose()
        await self.nodes.aclose()
        await self._connections.aclose()


async def _identity_fields(runner: ScriptRunner, shard: keys.Shard) -> dict[str, str]:
    flat = await runner.command(shard, "HGETALL", shard.ledger)
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


async def _time_us(runner: ScriptRunner, endpoint: Endpoint) -> int:
    seconds, microseconds = await runner.command_at(endpoint, "TIME")
    return int(seconds) * 1_000_000 + int(microseconds)


async def _check_rights(runner: ScriptRunner, endpoint: Endpoint) -> None:
    """Check the rights of all scripts, since a script without a right stops halfway.

    Raises:
        ConfigurationError: A right is missing, or the login fails.
    """
    load, ask = rights.question(access.GATE.samples)
    try:
        await runner.command_at(endpoint, *load)
        refused = await runner.command_at(endpoint, *ask)
    except LedgerUnavailableError as error:
        problem = rights.problem_of(error, access.GATE, LEDGER_SETTING)
        if problem is None:
            raise
        raise problem from error
    rights.check_reply(refused, access.GATE, LEDGER_SETTING)
