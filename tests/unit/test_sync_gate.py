"""The gate for threads: the methods of `Gate`, each of which waits."""

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from faregate import Gate, SyncGate
from faregate.domain.errors import AmountError, ConfigurationError, LedgerUnavailableError
from faregate.testing import Failure, MemoryGate, memory_gate
from waiting import WAIT_S_MAX, wait_for

#: What is named otherwise for threads: `with` is the lifespan, and `gate` has the lease.
OTHERWISE = {
    "aclose": "close",
    "lifespan": "__enter__",
    "retries": "join_retries",
    "idempotency_lease_ms": "gate",
    "under_way": "gate",
}
#: What `faregate journal import` calls, and no app.
OF_IMPORTS = {"collect", "follow"}
THREADS, CHARGES = 16, 25


@pytest.fixture
def memory() -> MemoryGate:
    return memory_gate(credits=THREADS * CHARGES)


@pytest.fixture
def gate(memory: MemoryGate) -> Iterator[SyncGate]:
    with SyncGate(lambda: memory) as gate:
        yield gate


def arguments(of: Callable[..., object]) -> list[str]:
    """The names and kinds of what a method takes, without its object."""
    return [str(p) for p in inspect.signature(of).parameters.values() if p.name != "self"]


def test_each_method_of_a_gate_is_there_with_its_arguments(
    memory: MemoryGate, gate: SyncGate
) -> None:
    """One that is added to `Gate` and forgotten here fails this test."""
    plain = Gate(memory.ledger, memory._store, memory.policies)
    for name in {name for name in dir(plain) if not name.startswith("_")} - OF_IMPORTS:
        assert hasattr(gate, OTHERWISE.get(name, name)), name
        if name not in OTHERWISE and callable(getattr(plain, name)):
            assert arguments(getattr(gate, name)) == arguments(getattr(plain, name)), name


def test_threads_share_one_gate_and_no_credit_is_lost(memory: MemoryGate, gate: SyncGate) -> None:
    """Sixteen threads spend all credits, and one more is refused."""
    user = memory.sign_up()

    def spend(_: int) -> bool:
        return all(gate.charge(user).allowed for _ in range(CHARGES))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(spend, range(THREADS)))
    assert not gate.charge(user).allowed
    assert memory.charged(user) == THREADS * CHARGES


def test_all_threads_use_one_event_loop(memory: MemoryGate) -> None:
    """However many make the first call at the same time."""
    built: list[Gate] = []

    def build() -> Gate:
        built.append(memory)
        return memory

    gate = SyncGate(build)
    with gate, ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: gate.health(), range(THREADS)))
    assert len(built) == 1


def test_errors_of_the_gate_are_raised_in_the_caller(memory: MemoryGate, gate: SyncGate) -> None:
    """Those of arguments and those of servers alike."""
    user = memory.sign_up()
    with pytest.raises(AmountError):
        gate.charge(user, cost=-1)
    with memory.failing(Failure.REDIS_DOWN), pytest.raises(LedgerUnavailableError):
        gate.charge(user)


def test_a_block_settles_its_hold(memory: MemoryGate, gate: SyncGate) -> None:
    """By what it says, or else by the estimate."""
    user = memory.sign_up(credits=30)
    with gate.holding(user, 10) as held:
        assert held.allowed
        assert held.settle(4).refunded == 6
    with gate.holding(user, 10):
        pass
    assert memory.credits_of(user) == 16


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_fails_gives_its_hold_back(
    memory: MemoryGate, gate: SyncGate, error: type[BaseException]
) -> None:
    """By whatever it ends; the thread of the gate goes on."""
    user = memory.sign_up(credits=30)
    with pytest.raises(error), gate.holding(user, 10):
        raise error
    assert memory.credits_of(user) == 30
    assert gate.charge(user).allowed


def test_a_closed_gate_refuses_until_it_is_started(memory: MemoryGate, gate: SyncGate) -> None:
    """And leaves no thread behind."""
    user = memory.sign_up()
    gate.close()
    gate.close()
    assert "faregate" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConfigurationError, match="closed"):
        gate.charge(user)
    gate.start()
    assert gate.charge(user).allowed


def test_parts_of_a_gate_are_closed_before_it(memory: MemoryGate) -> None:
    """On its event loop, while it still answers; the gate is closed though a part fails."""
    closed: list[object] = []
    gate = SyncGate(lambda: memory)
    user = memory.sign_up()

    async def close() -> None:
        closed.append(await memory.balance(user))
        raise ValueError("cannot be closed")

    gate.close_first(close)
    gate.close()
    assert closed == []  # Nothing was opened.
    threads = threading.enumerate()
    gate.start()
    with pytest.raises(ValueError, match="cannot be closed"):
        gate.close()
    assert len(closed) == 1
    assert threading.enumerate() == threads
    with pytest.raises(ConfigurationError, match="closed"):
        gate.charge(user)


def test_a_caller_that_waits_while_the_gate_is_closed_gets_an_error(
    memory: MemoryGate, gate: SyncGate
) -> None:
    """It does not wait for ever."""
    begun = threading.Event()

    async def never(_: Gate) -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(gate.run, never)
        begun.wait()
        gate.close()
        with pytest.raises(LedgerUnavailableError, match="closed"):
            waiting.result()


def test_an_interrupted_call_is_cancelled(gate: SyncGate, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cancelled task is, whose charge is voided."""
    cancelled = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def interrupted(_: Gate) -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def wait_in_vain(future: Future[None], *_: object) -> None:
        wait_for(lambda: loops, "the call has begun")
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", wait_in_vain)
    with pytest.raises(KeyboardInterrupt):
        gate.run(interrupted)
    wait_for(cancelled.is_set, "the call is cancelled")


def test_a_charge_whose_hand_over_is_interrupted_is_not_made(
    memory: MemoryGate, gate: SyncGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come when the loop has the call, and its caller has nothing yet."""
    user = memory.sign_up()
    running = gate._begun()
    hand_over = running._loop.call_soon_threadsafe
    handed_over: list[object] = []
    caller = threading.current_thread()

    def interrupted(*call: Any) -> None:
        hand_over(*call)
        if threading.current_thread() is caller and not handed_over:
            handed_over.append(call)
            raise KeyboardInterrupt

    monkeypatch.setattr(running._loop, "call_soon_threadsafe", interrupted)
    # A charge that the loop has answered already would stand.
    goes_on = threading.Event()
    hand_over(goes_on.wait)
    with pytest.raises(KeyboardInterrupt):
        gate.charge(user)
    goes_on.set()
    assert handed_over
    assert gate.join_retries(WAIT_S_MAX)
    assert memory.charged(user) == 0


def test_a_call_on_the_loop_of_the_gate_itself_is_refused(gate: SyncGate) -> None:
    """It would wait for itself."""

    async def call_back(_: Gate) -> None:
        gate.charge(UUID(int=1))

    with pytest.raises(ConfigurationError, match="its own event loop"):
        gate.run(call_back)


@pytest.mark.parametrize("library", ["gevent.thread", "eventlet.green.thread"])
def test_greenlets_in_place_of_threads_are_refused(
    memory: MemoryGate, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """At the first call, by an error that names the library.

    Neither library is installed here. This is the mark that `monkey_patch` of both leaves.
    """
    gate = SyncGate(lambda: memory)
    monkeypatch.setattr(threading, "get_ident", SimpleNamespace(__module__=library))
    with pytest.raises(ConfigurationError, match=f"{library} has replaced threads"):
        gate.charge(UUID(int=1))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_a_gate_of_its_own() -> None:
    """Even where another thread held the lock at the fork; the parent goes on with its own."""
    gate = SyncGate(memory_gate)
    with gate:
        mine = gate.gate
        with gate._lock:
            child = os.fork()
            if not child:
                signal.alarm(int(WAIT_S_MAX))
                try:
                    gate.start()
                    os._exit(0 if gate.gate is not mine else 1)
                finally:
                    os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert gate.gate is mine
        gate.health()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_one_gate_for_parent_and_child_is_refused(memory: MemoryGate, gate: SyncGate) -> None:
    """A builder that returns what the parent uses would share its sockets."""
    user = memory.sign_up()
    assert gate.charge(user).allowed
    child = os.fork()
    if not child:
        signal.alarm(int(WAIT_S_MAX))
        try:
            gate.charge(user)
        except ConfigurationError as error:
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
