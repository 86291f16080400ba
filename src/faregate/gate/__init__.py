"""The use cases: what an API, and those who run it, do with credits.

`Gate` is made of one class a subject, each on top of the one before: `entry` (who comes in),
`reading`, `observing`, `open_mode`, `holds`, `credits`, `refunds`, `collecting`, and `gate` itself.
"""

from faregate.gate.gate import Gate
from faregate.gate.held import Held
from faregate.gate.terms import Terms
from faregate.gate.tiers import CachedTiers, TierOf

__all__ = ["CachedTiers", "Gate", "Held", "Terms", "TierOf"]
