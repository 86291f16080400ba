"""The policy of attempts, for what takes credits.

A decision has a deadline. The first attempt may wait until then for a connection, and for half of
what is left then for its answer; if its outcome is unknown, one more is made with the same id,
which the script recognises. After that the outcome stays unknown: the deadline keeps a late arrival
from being charged, and the gate voids what may have been charged in time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

from faregate.adapters.redis.clock import ServerClock
from faregate.adapters.redis.runner import Patience
from faregate.domain.errors import LedgerUnavailableError, OutcomeUnknownError
from faregate.domain.request import Charge

#: What a retry can find for certain: that it, or an attempt before it, was charged, or was undone.
_CHARGED = (b"allowed", b"repeated", b"voided", b"conflict")
#: Which part of the time is the first attempt's to wait for its answer.
_FIRST_SHARE = 0.5
#: One attempt of a charge, and how long it may take.
Attempt: TypeAlias = Callable[[Charge, Patience], Awaitable[list[Any]]]


async def attempt_twice(charge: Charge, once: Attempt, clock: ServerClock) -> list[Any]:
    """Make the second attempt only where the first one's outcome is unknown.

    Raises:
        OutcomeUnknownError: The charge may have happened.
        LedgerUnavailableError: It did not happen, and will not.
    """
    time_s = asyncio.get_running_loop().time
    timeout_s = max(0.0, (charge.deadline_ms - clock.now_ms()) / 1000)
    gives_up_at_s = time_s() + timeout_s
    try:
        reply = await once(charge, Patience(timeout_s, _FIRST_SHARE))
    except OutcomeUnknownError:
        return await _attempt_again(charge, once, gives_up_at_s - time_s())
    if reply[0] != b"late":
        return reply
    if time_s() >= gives_up_at_s:
        raise LedgerUnavailableError("the charge reached Redis after its deadline")
    # The clock of Redis has jumped ahead of what its replies said. Nothing was charged.
    clock.reset()
    clock.observe(reply[3])
    deadline_ms = clock.now_ms() + int(timeout_s * 1000)
    return await _attempt_again(replace(charge, deadline_ms=deadline_ms), once, timeout_s)


async def _attempt_again(charge: Charge, once: Attempt, timeout_s: float) -> list[Any]:
    """Retry. A refusal is not certain: the attempt before may still arrive, and take."""
    try:
        reply = await once(replace(charge, fresh=False), Patience(timeout_s))
    except LedgerUnavailableError as error:
        raise OutcomeUnknownError(str(error)) from error
    if reply[0] not in _CHARGED:
        raise OutcomeUnknownError(f"the retry was refused: {reply[0].decode()}")
    return reply
