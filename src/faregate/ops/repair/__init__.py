"""Repairs the findings of reconcile and verify, each step with actor and reason."""

from faregate.ops.repair.facts import Sources
from faregate.ops.repair.run import OnStep, Repaired, Servers, acknowledge, preview, repair

__all__ = ["OnStep", "Repaired", "Servers", "Sources", "acknowledge", "preview", "repair"]
