"""What the parts of the ledger in memory share."""

import time

from faregate.domain.decision import Decision, Verdict
from faregate.domain.request import Charge, Credit, Refund
from faregate.domain.user import User


def unix_ms() -> int:
    """Return the time of this machine in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def blank_of(source: Charge | Credit | Refund, user: User | None, amount: int) -> Decision:
    """Return the refusal that holds until something better is decided."""
    return Decision(
        verdict=Verdict.UNKNOWN_USER,
        user_id=source.user_id,
        transaction_id=source.transaction_id,
        amount=amount,
        credits=user.credits if user else 0,
        allowance_left=user.allowance_left if user else 0,
    )
