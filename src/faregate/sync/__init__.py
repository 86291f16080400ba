"""The gate for callers without an event loop: WSGI apps, jobs, scripts, threads."""

from faregate.sync.gate import SyncGate
from faregate.sync.waits import SyncHeldBlock, waits

__all__ = ["SyncGate", "SyncHeldBlock", "waits"]
