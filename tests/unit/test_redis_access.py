"""The list of commands that users of Redis may send is that of the commands that are sent."""

import re
from pathlib import Path

import pytest
from redis import Redis

from faregate.adapters.redis import access, scripts

pytestmark = pytest.mark.redis

REDIS = Path(access.__file__).parent
#: The modules that a gate runs, and those of a worker. Others send nothing by a name of their own.
GATE_MODULES = ("balances", "holds", "installer", "runner", "scripts", "session")
WORKER_MODULES = (
    "batches",
    "client",
    "credits",
    "forks",
    "holds",
    "installer",
    "record_wait",
    "scripts",
    "shard_states",
    "stream",
    "sweeper",
    "user_keys",
)
#: Scripts that the worker runs, and one that reads nothing.
WORKER_SCRIPTS = {"credit", "end", "erase", "install", "stored"}
ASKING_SCRIPTS = {"allowed"}
#: What corrects live balances, and the modules that it takes.
REPAIR_SCRIPTS = {"align"}
REPAIR_MODULES = ("alignments", "batches", "client", "scripts")
#: What is sent where a URL names a database, or a cluster; and what a slot that moves needs.
CONNECTING = {"select", "cluster", "asking", "ping"}
#: What waits for replicas, in a lane.
WAITING = {"wait"}
#: In a fragment of `end`, in a function that it does not call.
UNCALLED = {"hlen"}


@pytest.fixture
def known(redis_url: str) -> set[str]:
    """All commands of a server."""
    with Redis.from_url(redis_url) as client:
        return {name.decode().lower() for name in client.execute_command("COMMAND LIST")}


def words(text: str) -> set[str]:
    """What stands in quotes, in capitals."""
    return {word.lower() for word in re.findall(r"[\"']([A-Z]{3,})[\"']", text)}


def sent(known: set[str], modules: tuple[str, ...], names: set[str]) -> set[str]:
    """The commands that modules and scripts name."""
    code = [(REDIS / f"{module}.py").read_text("utf-8") for module in modules]
    code += [scripts.load(name).source for name in names]
    return set().union(*map(words, code)) & known


def granted(samples: tuple[str, ...]) -> set[str]:
    return {sample.split()[0] for sample in samples}


def test_a_gate_may_send_its_commands_and_no_others(known: set[str]) -> None:
    """By itself or in a script: a command that is added to either is added to the list."""
    shared = {"credit", "end", "install"}
    names = set(scripts.names()) - WORKER_SCRIPTS - ASKING_SCRIPTS - REPAIR_SCRIPTS | shared
    assert granted(access.GATE.samples) - CONNECTING - WAITING == sent(known, GATE_MODULES, names)


def test_a_worker_may_send_its_commands_and_no_others(known: set[str]) -> None:
    """As far as its own modules and scripts go; RQ's commands are seen where it runs."""
    ours = sent(known, WORKER_MODULES, WORKER_SCRIPTS) - {"function", "fcall"} - UNCALLED
    assert granted(access.WORKER_ON_LEDGER) - CONNECTING - WAITING == ours


def test_a_repairer_may_send_the_commands_of_a_gate_and_needs_no_more(known: set[str]) -> None:
    """It takes refunds back as a gate, and fills an empty Redis; so one user suffices."""
    # The client asks for INFO on behalf of the doctor alone, and of the sweeper.
    ours = sent(known, REPAIR_MODULES, REPAIR_SCRIPTS) - {"info"}
    assert ours <= granted(access.REPAIRER.samples)
    assert access.REPAIRER.samples == access.GATE.samples


def test_no_user_may_send_a_dangerous_command(known: set[str]) -> None:
    """Nothing that reaches past the keys of the user, or changes the server."""
    dangerous = {
        "acl",
        "config",
        "debug",
        "eval",
        "flushall",
        "flushdb",
        "keys",
        "shutdown",
    }
    assert dangerous < known
    for user in access.USERS:
        names = {name.partition("|")[0] for name in user.commands}
        assert not names & dangerous, user.name
        assert user.commands == tuple(sorted(set(user.commands)))
    assert {access.GATE.newer_command, access.WORKER.newer_command} == {"waitaof"}
    # It tells the names of keys that are not the user's, and no more.
    assert [user for user in access.USERS if "scan" in user.commands] == [access.WORKER]
    assert {"client|info", "client|setname"} == {
        name for name in access.WORKER.commands if name.startswith("client")
    }
