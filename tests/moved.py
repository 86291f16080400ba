"""A ledger that is lost, moved or restored, as its gates and its worker meet it."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from uuid import UUID

from faregate import Settings, open_gate
from faregate.bootstrap import open_audit, open_stream
from faregate.ops.reconcile import reconcile, verify
from faregate_worker.jobs import work_on
from faregate_worker.runtime import Stop
from waiting import WAIT_S_MAX


def changed(settings: Settings, **given: object) -> Settings:
    """Return settings of which some are others."""
    return settings.model_copy(update=given)


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker, as a thread."""
    stop = Stop()
    thread = Thread(target=work_on, args=(settings, stop, WAIT_S_MAX))
    thread.start()
    try:
        yield
    finally:
        stop.request()
        thread.join()


def charge_all(settings: Settings, users: Sequence[UUID], expected: int) -> None:
    """Charge each user once, by a gate that starts; each has so many credits then."""

    async def charge() -> None:
        async with open_gate(settings) as gate:
            assert [(await gate.charge(user)).credits for user in users] == [expected] * len(users)

    asyncio.run(charge())


def assert_exact(settings: Settings) -> None:
    """Every number agrees, and no history has a gap, a fork or a break."""
    with open_stream(settings) as stream, open_audit(settings) as audit:
        assert reconcile(stream, stream, audit).findings == []
        assert verify(stream, stream, audit) == []
