"""A gate for threads in a process that forks: no connection is shared, no credit is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from faregate import Settings, build_sync_gate
from sync_process import CHARGES, CHILDREN, GRANTED, THREADS
from waiting import WAIT_S_MAX

PROGRAM = Path(__file__).parents[1] / "sync_process.py"


@pytest.mark.redis
@pytest.mark.postgres
def test_parent_and_children_charge_at_once(ledger_redis: str, database_url: str) -> None:
    """The gate was in use at the fork; parent and children go on, and no credit is lost."""
    user = uuid4()
    variables = {
        "FAREGATE_REDIS_URL": ledger_redis,
        "FAREGATE_POSTGRES_URL": database_url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(user)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["codes"] == [0] * CHILDREN
    assert told["counts"] == [THREADS * CHARGES] * (CHILDREN + 3)
    settings = Settings(redis_url=ledger_redis, postgres_url=database_url)
    with build_sync_gate(settings) as gate:
        left = gate.balance(user)
    assert left is not None
    assert left.credits == 3 + GRANTED - sum(told["counts"])
