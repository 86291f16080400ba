"""What was measured on: versions, processors, load. Nothing that names the machine."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.servers import redis_program, redis_version

PACKAGES = (
    "redis",
    "hiredis",
    "starlette",
    "fastapi",
    "uvicorn",
    "httptools",
    "limits",
    "throttled-py",
    "pyrate-limiter",
    "slowapi",
    "fastapi-limiter",
)


def facts() -> dict[str, object]:
    """Return what does not change during a run."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": _system(),
        "kernel": platform.release().partition("-")[0],
        "redis_server": redis_version(redis_program()),
        "redis_options": "appendonly yes, appendfsync everysec, maxmemory-policy noeviction",
        "event_loop": "asyncio's own; no uvloop on any side",
        "versions": {"python": platform.python_version(), **_versions()},
    }


def load() -> Mapping[str, float]:
    """Return how busy the machine is, as averages over 1, 5 and 15 minutes."""
    one, five, fifteen = os.getloadavg()
    return {"1_min": round(one, 2), "5_min": round(five, 2), "15_min": round(fifteen, 2)}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _commit() -> str:
    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = " and changes" if git("status", "--porcelain", "--", "src", "lua") else ""
    return git("rev-parse", "--short", "HEAD") + changed


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _system() -> str:
    return str(platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()))
