"""The gate for callers without an event loop: WSGI apps, jobs, scripts, threads."""

from faregate.sync.gate import SyncGate
from faregate.sync.waits import SyncHoldBlock, waits

__all__ = ["SyncGate", "SyncHoldBlock", "waits"]
