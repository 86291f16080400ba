"""The gate for callers without an event loop: WSGI apps, jobs, scripts, threads."""

from faregate.sync.blocking import SyncHoldBlock, blocking
from faregate.sync.gate import SyncGate

__all__ = ["SyncGate", "SyncHoldBlock", "blocking"]
