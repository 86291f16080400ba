"""The public surface is what `__all__` says, and no more."""

import faregate
import faregate.asgi

PUBLIC = [
    "Allowance",
    "BreakerState",
    "CachedTiers",
    "CreditPolicy",
    "CreditTransaction",
    "CreditTransactionId",
    "Decision",
    "FailureMode",
    "FaregateError",
    "Gate",
    "Health",
    "Hold",
    "HoldAnswer",
    "HoldState",
    "KeyState",
    "LimitKind",
    "LimitState",
    "OnExpiry",
    "Period",
    "PeriodKind",
    "PolicySet",
    "RateLimit",
    "Settings",
    "SyncGate",
    "SyncHoldBlock",
    "TransactionType",
    "Usage",
    "User",
    "Verdict",
    "build_api_keys",
    "build_gate",
    "build_sync_gate",
    "open_gate",
    "user_id_of",
]


def test_the_public_names_are_pinned() -> None:
    """A name that is added or taken away is a decision, made here."""
    assert faregate.__all__ == PUBLIC == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(faregate, name).__doc__, name


def test_the_middleware_is_found_where_the_readme_says() -> None:
    """It is imported apart, so that a worker needs no ASGI."""
    assert faregate.asgi.FaregateMiddleware.__doc__
