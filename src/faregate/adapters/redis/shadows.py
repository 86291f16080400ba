"""Shadow balances in Redis."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from faregate.adapters.redis import keys
from faregate.adapters.redis.encoding import encode_allowance, encode_limits
from faregate.adapters.redis.replies import read_limits
from faregate.adapters.redis.runner import Arguments, Patience, ScriptRunner
from faregate.domain.decision import Decision, Verdict
from faregate.domain.shadow import Observation
from faregate.domain.transaction import check_whole


class RedisShadows:
    """The port `Shadows` on Redis 7 or Valkey. Its connections are those of the ledger."""

    def __init__(self, runner: ScriptRunner, *, shard_count: int, timeout_s: float) -> None:
        self._runner = runner
        self._shard_count = shard_count
        self._patience = Patience(timeout_s)

    async def observe(self, observation: Observation) -> Decision:
        """Decide on the shadow balance of a user, and count the answer; see the port."""
        charge = observation.charge
        check_whole("a cost", charge.cost, 0)
        reply = await self._run(observation, charge.cost, is_decided=True)
        limit = reply[7]
        return Decision(
            verdict=Verdict.ALLOWED,
            user_id=charge.user_id,
            transaction_id=charge.transaction_id,
            amount=-charge.cost,
            credits=reply[1],
            allowance_left=reply[5],
            resets_at_ms=reply[6] or None,
            limited_by=charge.limits[limit - 1].name if limit else "",
            retry_after_ms=reply[8],
            limits=read_limits(reply[9:], charge.limits),
            shadow=Verdict(reply[0].decode()),
        )

    async def correct(self, observation: Observation, amount: int) -> None:
        """Change the shadow balance of a user; see the port."""
        await self._run(observation, -amount, is_decided=False)

    async def counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often each verdict would have been given; see the port."""
        total: Counter[Verdict] = Counter()
        for shard in range(self._shard_count):
            flat = await self._runner.command("HGETALL", keys.shadow_counts(shard, policy))
            for name, count in zip(flat[::2], flat[1::2], strict=True):
                total[Verdict(name.decode())] += int(count)
        return total

    async def _run(self, observation: Observation, cost: int, *, is_decided: bool) -> list[Any]:
        charge, policy = observation.charge, observation.policy
        shard = keys.shard_of(charge.user_id, self._shard_count)
        names = (
            keys.shadow(shard, policy, charge.user_id),
            keys.shadow_counts(shard, policy),
            *keys.rates(shard, charge, f"shadow {policy} "),
        )
        arguments: Arguments = (
            charge.transaction_id.value.bytes,
            cost,
            1 if is_decided else 0,
            observation.starting_credits,
            *encode_allowance(charge.allowance),
            *encode_limits(charge.limits),
        )
        return await self._runner.run("observe", names, arguments, self._patience)
