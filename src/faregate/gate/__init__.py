"""The use cases: what an API, and those who run it, do with credits."""

from faregate.gate.gate import Gate
from faregate.gate.held import Held
from faregate.gate.terms import Terms
from faregate.gate.tiers import CachedTiers, TierOf

__all__ = ["CachedTiers", "Gate", "Held", "Terms", "TierOf"]
