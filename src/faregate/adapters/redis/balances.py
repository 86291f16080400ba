"""Live balances in Redis: read, install, renew; and shadow balances."""

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

from faregate.adapters.redis.encoding import pack_rules, shadow_digest
from faregate.adapters.redis.replies import error_of
from faregate.adapters.redis.runner import ScriptRunner
from faregate.domain.decision import Verdict
from faregate.domain.errors import LedgerUnavailableError, LedgerUninitialisedError
from faregate.domain.idempotency import Completion
from faregate.domain.policy import Allowance, CreditPolicy
from faregate.domain.transaction import CreditTransactionId
from faregate.domain.user import User


class BalanceScripts:
    """Reads balances, and installs those of Postgres."""

    def __init__(self, runner: ScriptRunner, *, pending_max: int) -> None:
        self._runner = runner
        self._pending_max = pending_max

    async def read(self, user_id: UUID, allowance: Allowance | None) -> User | None:
        """Return the live balance; see the port."""
        reply = await self._runner.run("read", user_id, pack_rules(allowance))
        status, credits_, sequence, _, _, left, epoch, start_ms, end_ms, held = reply
        if status == "unknown_user":
            return None
        return User(
            id=user_id,
            credits=credits_,
            sequence=sequence,
            epoch=epoch,
            allowance_left=left,
            period_start_ms=start_ms or None,
            period_end_ms=end_ms or None,
            held=held,
        )

    async def renew(self, user_id: UUID, allowance: Allowance) -> int | None:
        """Begin the current period if the last one is over; see the port."""
        reply = await self._runner.run("renew", user_id, self._pending_max, pack_rules(allowance))
        status, added = reply[0], reply[6]
        if status == "unknown_user":
            return None
        if status == "backlog":
            raise LedgerUnavailableError("too many records wait for the worker")
        if status not in {"renewed", "current"}:
            raise error_of(status, f"a new period of user {user_id}")
        return int(added)

    async def install(self, user: User) -> bool:
        """Install a user's durable balance; see the port."""
        balance = user.credits, user.sequence, user.epoch, user.allowance_left
        reply = await self._runner.run("install", user.id, *balance, user.period_start_ms or 0)
        if reply[0] == "epoch":
            raise LedgerUninitialisedError(
                f"Redis is of epoch {reply[6]} where Postgres expects {user.epoch}: rebuild it"
            )
        return bool(reply[0] == "installed")

    async def complete(self, completion: Completion) -> bool:
        """Note that the request of an idempotency key has been served; see the port."""
        spend_id = completion.transaction_id
        reply = await self._runner.run(
            "complete",
            completion.user_id,
            spend_id.bytes,
            completion.response,
            completion.lifetime_ms,
            (completion.attempt_id or spend_id).bytes,
        )
        return bool(reply[0] == "completed")

    async def response(self, user_id: UUID, transaction_id: CreditTransactionId) -> bytes | None:
        """Return a saved response; see the port."""
        shard = self._runner.shard(user_id)
        found: bytes | None = await self._runner.command(
            shard, "GET", shard.response(transaction_id)
        )
        return found

    async def correct_shadow(self, user_id: UUID, policy: CreditPolicy, amount: int) -> None:
        """Change the shadow balance of a user; see the port."""
        account = self._runner.shard(user_id).shadow(shadow_digest(policy.name), user_id.bytes)
        arguments = amount, policy.starting_credits
        await self._runner.run("correct_shadow", user_id, *arguments, account=account)

    async def shadow_counts(self, policy: str) -> Mapping[Verdict, int]:
        """Return how often a shadow policy would have given each verdict; see the port."""
        total: Counter[Verdict] = Counter()
        for shard in self._runner.shards:
            name = shard.shadow_counts(shadow_digest(policy))
            flat = await self._runner.command(shard, "HGETALL", name)
            for verdict, count in zip(flat[::2], flat[1::2], strict=True):
                total[Verdict(verdict.decode())] += int(count)
        return total
