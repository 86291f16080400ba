"""The use cases of an API and of its operators.

`Gate` is composed of small parts:

    gate ─┬─ spending ──> session, follow_up ──> ledger       charges and holds
          ├─ hold_ends                                        settle, cancel, extend, holding
          ├─ reversals, adjustments, completions
          ├─ queries
          └─ fallback, collecting                             the journal

`session` owns the event loop, the start, the circuit breaker and the queue of retries.
"""

from faregate.gate.gate import Gate
from faregate.gate.hold_ends import HoldBlock
from faregate.gate.options import ChargeOptions, CreditOptions
from faregate.gate.tiers import CachedTiers, TierOf

__all__ = ["CachedTiers", "ChargeOptions", "CreditOptions", "Gate", "HoldBlock", "TierOf"]
