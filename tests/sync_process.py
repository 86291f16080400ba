"""A process that charges in threads before, during and after forks: `sync_process.py USER`.

It writes as JSON how many charges were allowed in it and in its children, which end as programs do:
with all that the interpreter does at its end.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from faregate import Settings, SyncGate, build_sync_gate

CHILDREN, THREADS, CHARGES = 2, 8, 20
GRANTED = 10_000


def spend(gate: SyncGate, user_id: UUID) -> int:
    """Charge in all threads; return how many charges were allowed."""
    with ThreadPoolExecutor(THREADS) as pool:
        allowed = pool.map(lambda _: gate.charge(user_id).allowed, range(THREADS * CHARGES))
        return sum(allowed)


def main(user_id: UUID) -> None:
    """Charge, fork, and charge in all processes at the same time."""
    gate = build_sync_gate(Settings(decision_timeout_ms=10_000, provision_users=True))
    gate.grant(user_id, GRANTED)
    counts = [spend(gate, user_id)]
    reading, writing = os.pipe()
    children = []
    for _ in range(CHILDREN):
        child = os.fork()
        if not child:
            os.write(writing, b"%d\n" % spend(gate, user_id))
            sys.exit(0)
        children.append(child)
    counts.append(spend(gate, user_id))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    counts.append(spend(gate, user_id))
    os.close(writing)
    with os.fdopen(reading) as told:
        counts += [int(line) for line in told]
    print(json.dumps({"counts": counts, "codes": codes}))  # noqa: T201


if __name__ == "__main__":
    main(UUID(sys.argv[1]))
