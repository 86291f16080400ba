"""Repair: what reconcile and verify find is put right, each step with who and why."""

from faregate.ops.repair.facts import Sources
from faregate.ops.repair.run import OnStep, Repaired, Servers, acknowledge, preview, repair

__all__ = ["OnStep", "Repaired", "Servers", "Sources", "acknowledge", "preview", "repair"]
