"""Everything runs with the rights that `faregate access` prints, and nothing else is needed."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from durable import History
from faregate.adapters.redis import access
from faregate.bootstrap import build_api_keys, build_gate, open_stream
from faregate.cli.servers import Binaries, EmbeddedServers
from faregate.config import QUEUE_NAME
from gate_use import POLICIES, use
from least_rights import SECRET, Restricted, restricted_ledger, tell
from operated import WHO
from recorded import recorded
from traces import traces_in_redis
from waiting import wait_for
from worker_process import children

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture(scope="module")
def ledger(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restricted]:
    folder = tmp_path_factory.mktemp("access")
    with (
        EmbeddedServers(durable=False, binaries=binaries) as servers,
        restricted_ledger(servers, folder) as made,
    ):
        yield made


def is_drained(ledger: Restricted) -> bool:
    with open_stream(ledger.settings(access.OPERATOR, "app_auditor")) as stream:
        return not stream.pending_count()


def delete(ledger: Restricted, user: UUID) -> None:
    with psycopg.connect(ledger.servers.postgres_url) as admin:
        admin.execute("delete from auth.users where id = %s", [user])


def is_erased(ledger: Restricted, user: UUID) -> bool:
    asked = "select from faregate.deletions where user_id is null"
    with psycopg.connect(ledger.servers.postgres_url) as connection:
        is_noted = connection.execute(asked).rowcount == 1
    with Redis.from_url(ledger.servers.redis_url) as redis:
        return is_noted and traces_in_redis(redis, user) <= {":tx"}


def open_holds(ledger: Restricted) -> int:
    with Redis.from_url(ledger.servers.redis_url) as redis:
        return sum(redis.zcard(name) for name in redis.scan_iter("fg:*:holds"))


def failed_jobs(ledger: Restricted) -> int:
    with Redis.from_url(ledger.redis_url(access.WORKER.name)) as redis:
        return len(FailedJobRegistry(QUEUE_NAME, redis, serializer=JSONSerializer))


def command_lines(pid: int) -> str:
    """What the process list shows of a worker and its ticker."""
    pids = [pid, *children(pid, ticker=True)]
    assert len(pids) == 2
    return "\n".join(Path(f"/proc/{each}/cmdline").read_text("utf-8") for each in pids)


def use_commands(ledger: Restricted, user: str) -> None:
    """Run commands of an auditor, and one that changes credits; the servers are not durable."""
    for code, words in (
        (0, ("reconcile",)),
        (0, ("verify",)),
        (0, ("history", user)),
        (0, ("users", "export", user)),
        (1, ("status",)),
    ):
        status, said = ledger.command(access.OPERATOR, "app_auditor", *words)
        assert status == code, said
    status, said = ledger.command(access.GATE, "app_api", "grant", user, "1", *WHO)
    assert status == 0, said
    retry_letter(ledger, UUID(user))
    # No worker is there that would delete the keys.
    end = ("erase", user, *WHO, "--yes", "--force", "--wait-s", "0")
    assert ledger.command(access.GATE, "app_owner", "users", "close", user, *WHO)[0] == 0
    assert ledger.command(access.OPERATOR, "app_owner", "users", *end)[0] == 3


def retry_letter(ledger: Restricted, user: UUID) -> None:
    """Make a row of a record that the live balance does not have, which is told."""
    (history := History(user)).sequence = 1_000
    ledger.save_letter(recorded(history.record(-1)).payload)
    words = ("--kind", "unreadable", "--all", *WHO, "--json")
    status, said = ledger.command(access.OPERATOR, "app_owner", "dead-letters", "retry", *words)
    assert (status, '"outcome": "retried"' in said) == (1, True), said


@pytest.mark.long
async def test_everything_runs_with_these_rights_and_nothing_is_refused(ledger: Restricted) -> None:
    """A gate, API keys, a worker with a job that fails, and the commands of an operator."""
    settings = ledger.settings(access.GATE, "app_api")
    gate = build_gate(settings, POLICIES)
    await gate.start()
    user, gone, ordered = await use(gate), await use(gate), ledger.order_credits()
    delete(ledger, gone)
    key = "keys", "create", "--user", str(user), "--name", "a key"
    assert ledger.command(access.GATE, "app_owner", *key)[0] == 0
    api_keys = build_api_keys(settings)
    assert await api_keys.find(uuid4()) is None
    await api_keys.note_uses({})
    await api_keys.aclose()

    with ledger.worker() as worker:
        with Redis.from_url(ledger.redis_url(access.WORKER.name)) as redis:
            queue = Queue(QUEUE_NAME, connection=redis, serializer=JSONSerializer)
            queue.enqueue("faregate_worker.jobs.no_such_job", failure_ttl=60)
        wait_for(lambda: not open_holds(ledger), "the worker ends what its owner has left")
        wait_for(lambda: is_drained(ledger) and is_erased(ledger, gone), "all is done")
        wait_for(lambda: failed_jobs(ledger) and ledger.is_row(ordered), "a job and an order end")
        wait_for(ledger.is_compared, "the worker compares numbers")
        assert ledger.command(access.WORKER, "app_worker", "worker", "--check")[0] == 0
        assert worker.poll() is None
        assert SECRET not in command_lines(worker.pid)
    assert SECRET not in (ledger.folder / "worker.log").read_text("utf-8")
    use_commands(ledger, str(user))
    for user_name, login, words in (
        (access.GATE, "app_api", ["renew", "faregate.bootstrap:nothing"]),
        (access.GATE, "app_owner", ["rebuild"]),
    ):
        # Refused for other reasons: there is no such gate, and Redis holds an epoch.
        code, said = ledger.command(user_name, login, *words)
        assert code == 2, said
        assert "right" not in said
    await gate.aclose()

    assert ledger.refused() == []


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("faregate.cli", ("worker",)),
        ("faregate_worker", ()),
        ("faregate.cli", ("api", "--port", "0")),
    ],
    ids=["worker", "worker by its module", "api"],
)
def test_a_process_without_its_rights_says_so_in_one_line(
    ledger: Restricted, module: str, words: tuple[str, ...]
) -> None:
    """It exits with 2, whichever server refuses, and shows no password."""
    for user, login in (
        (access.OPERATOR, "app_owner"),
        (access.GATE if "api" in words else access.WORKER, "app_backup"),
    ):
        code, said = ledger.command(user, login, *words, module=module)
        assert code == 2, said
        line = said.splitlines()[-1]
        assert re.search(r"(^faregate|misconfigured): the ", line)
        assert "faregate access" in line
        assert "Traceback" not in said
        assert SECRET not in said
    with Redis.from_url(ledger.servers.redis_url) as redis:
        redis.acl_log_reset()


def test_a_backup_holds_everything(ledger: Restricted, binaries: Binaries) -> None:
    """As its own role, which passes by row level security, and restored by a superuser."""
    programs, server = binaries.postgres, ledger.servers.postgres
    who = "--role=faregate_backup"
    with psycopg.connect(server.url) as owner:
        owner.execute("insert into auth.users (id) values (gen_random_uuid())")
    dumped = subprocess.run(
        [programs / "pg_dump", who, server.database_url("postgres", user="app_backup")],
        capture_output=True,
        check=True,
    ).stdout
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("create database restored")
    restored = server.database_url("restored")
    restoring = [str(programs / "psql"), "--quiet", "--set=ON_ERROR_STOP=1", restored]
    subprocess.run(restoring, input=dumped, stdout=subprocess.DEVNULL, check=True)
    before, after = contents(server.url), contents(restored)
    assert before == after
    assert all(count for count, _ in before)


def contents(url: str) -> list[tuple[int, str]]:
    """How many rows each table has, and what they add up to."""
    digest = sql.SQL("select count(*), md5(string_agg(t::text, '' order by t::text)) from {} as t")
    found = []
    with psycopg.connect(url) as connection:
        for table in (("public", "credit_transactions"), ("public", "profiles"), ("auth", "users")):
            row = connection.execute(digest.format(sql.Identifier(*table))).fetchone()
            assert row is not None
            found.append((row[0], row[1]))
    return found


def test_a_program_of_one_role_lacks_the_rights_of_another(ledger: Restricted) -> None:
    """Roles of the queue, of balances and of rows stand apart."""
    gate = Redis.from_url(ledger.redis_url(access.GATE.name))
    operator = Redis.from_url(ledger.redis_url(access.OPERATOR.name))
    for client, words in (
        (gate, ("SET", "rq:job:x", "y")),
        (gate, ("FLUSHALL",)),
        (gate, ("KEYS", "*")),
        (gate, ("CONFIG", "GET", "*")),
        (gate, ("EVAL", "return 1", "0")),
        (operator, ("SET", "fg:{0}:s", "y")),
    ):
        with pytest.raises(Exception, match="permissions"):
            tell(client, *words)
    gate.close()
    operator.close()
    with Redis.from_url(ledger.servers.redis_url) as redis:
        redis.acl_log_reset()
    for login, statement in (
        ("app_auditor", "update public.profiles set credits = 1"),
        ("app_auditor", "select secret_hash from faregate.api_keys"),
        ("app_api", "update public.profiles set credits = 1"),
        ("app_worker", "update faregate.ledger set epoch = 9"),
        ("app_backup", "insert into faregate.dead_letters default values"),
    ):
        with (
            psycopg.connect(ledger.postgres_url(login)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())
