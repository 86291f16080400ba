"""What an attacker or an accident does to a ledger, and what must be found of it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from redis import Redis

from busy_ledger import Busy
from own_redis import OwnRedis
from waiting import wait_for
from wire_client import free_port

BY_HAND = 50
ROWS = "public.credit_transactions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """A harm. `do` proves that it has happened, and returns when its traces are there."""

    do: Callable[[Busy, UUID], object]
    #: The kinds of what is found of the user to whom it is done.
    kinds: frozenset[str] = field(default_factory=frozenset)
    #: Without a user: the kind, and how each finding of it begins.
    of_all: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def nothing(busy: Busy, user_id: UUID) -> None:
    """Let it be."""
    busy.wait_for_rows([user_id])


def forge(statement: str) -> Callable[[Busy, UUID], None]:
    """Change a row of the user behind its guards."""

    def do(busy: Busy, user_id: UUID) -> None:
        busy.wait_for_rows([user_id], more=3)
        newest = busy.rows(user_id)[-2]["sequence"]
        where = f"where user_id = %s and sequence = {newest}"
        busy.forge(f"{statement.format(ROWS, newest - 1)} {where}", user_id)
        busy.wait_for_rows([user_id])

    return do


def alter_profile(busy: Busy, user_id: UUID) -> None:
    """Past the guard of a role that is no superuser."""
    changed = "update public.profiles set credits = 99 where id = %s returning credits"
    assert busy.sql(changed, user_id) == [{"credits": 99}]


def change_schema(statement: str) -> Callable[[Busy, UUID], object]:
    """Run a statement about the schema."""
    return lambda busy, _: busy.sql(statement)


def insert_by_hand(busy: Busy, user_id: UUID) -> None:
    names = "(user_id, amount, type, description)"
    values = f"values (%s, {BY_HAND}, 'add', 'by hand')"
    busy.sql(f"insert into {ROWS} {names} {values}", user_id)
    busy.given[user_id] += BY_HAND


def lose_record(busy: Busy, user_id: UUID) -> None:
    """Delete a record that no drain has read yet."""
    with busy.system.rows_locked():
        wait_for(busy.system.is_storing, "a drain waits")
        busy.callers.wait_for_more()
        with busy.callers.paused(), busy.client as client:
            newest = client.xrevrange(busy.stream(user_id), count=1)[0][0]
            assert client.xdel(busy.stream(user_id), newest) == 1
    busy.wait_for_rows([user_id])


def restore_older_redis(busy: Busy, user_id: UUID) -> None:
    """Restart Redis with the files that it had before some charges, which are rows."""
    del user_id
    kept, files = busy.redis.folder / "kept", busy.redis.folder / "appendonlydir"
    with busy.settled():
        shutil.copytree(files, kept)
    busy.callers.wait_for_more(3)
    with busy.settled():
        busy.redis.kill()
        shutil.rmtree(files)
        kept.rename(files)
        busy.redis.start()
    wait_until_aligned(busy)


def wait_until_aligned(busy: Busy) -> None:
    """Wait until the worker has noticed the fork, and all balances follow the rows."""
    query = (
        "select count(distinct user_id) as users,"
        " count(*) filter (where aligned_at is null) as due from faregate.lost_records"
    )

    def is_aligned() -> bool:
        (row,) = busy.sql(query)
        return bool(row["users"] == len(busy.users) and not row["due"])

    wait_for(is_aligned, "all balances are aligned")
    busy.callers.wait_for_more()
    busy.wait_for_rows(busy.users)


def promote_lagging_replica(busy: Busy, user_id: UUID) -> None:
    """Fail over to a replica that the newest records, which are rows, did not reach."""
    del user_id
    former, folder = busy.redis, busy.redis.folder / "replica"
    folder.mkdir()
    replica = OwnRedis(former.program, folder, (*former.options[:-1], str(free_port())))
    replica.start()
    with Redis.from_url(replica.url) as other, Redis.from_url(former.url) as first:
        other.replicaof("127.0.0.1", former.options[-1])
        with busy.settled():
            wait_for(lambda: _has_all(other, first), "the replica has all")
            # Nobody answers there.
            other.replicaof("127.0.0.1", str(free_port()))
        busy.callers.wait_for_more(3)
        with busy.settled():
            former.kill()
            other.replicaof("NO", "ONE")
            busy.move_to(replica)
        wait_until_aligned(busy)


def _has_all(replica: Redis, primary: Redis) -> bool:
    told = replica.info("replication")
    reached = told["master_link_status"] == "up" and told["slave_repl_offset"]
    return bool(reached >= primary.info("replication")["master_repl_offset"])


def wipe_redis(busy: Busy, user_id: UUID) -> None:
    """Empty it, with the queue, when all records are rows."""
    del user_id
    with busy.settled(), busy.client as client:
        client.flushall()
        assert not client.keys("fg:*:a:*")


def restore_older_postgres(busy: Busy, user_id: UUID) -> None:
    """Restore a backup of which Redis still has all later records: nothing is left of it."""
    copy = busy.copy_database()
    busy.callers.wait_for_more(3)
    with busy.settled():
        busy.restore_database(copy)
    busy.wait_for_rows([user_id])


def restore_too_old_postgres(busy: Busy, user_id: UUID) -> None:
    """Restore a backup when Redis has deleted the records of one user since."""
    copy = busy.copy_database()
    busy.callers.wait_for_more(3)
    with busy.settled(), busy.client as client:
        client.xtrim(busy.stream(user_id), maxlen=0, approximate=False)
        busy.restore_database(copy)
    busy.wait_for_rows([user_id])


GUTTED = "returns trigger language plpgsql as $$ begin return null; end $$"
OWN = '"Users can view their own transactions"'
LIVE_DRIFT = frozenset({"live", "chain"})

SABOTAGES: dict[str, Sabotage] = {
    "nothing": Sabotage(do=nothing),
    "balance raised": Sabotage(do=lambda busy, user: busy.alter(user, 100), kinds=LIVE_DRIFT),
    "balance lowered": Sabotage(do=lambda busy, user: busy.alter(user, -100), kinds=LIVE_DRIFT),
    "profile altered": Sabotage(
        do=alter_profile,
        kinds=frozenset({"projection"}),
    ),
    "pending record deleted": Sabotage(do=lose_record, kinds=frozenset({"gap", "live"})),
    "row deleted": Sabotage(
        do=forge("delete from {}"), kinds=frozenset({"gap", "live", "projection"})
    ),
    "sequence duplicated": Sabotage(
        do=forge("update {} set sequence = {}"), kinds=frozenset({"forged", "fork", "gap"})
    ),
    "description forged": Sabotage(
        do=forge("update {} set description = 'forged'"), kinds=frozenset({"forged"})
    ),
    "amount forged": Sabotage(
        do=forge("update {} set amount = amount - 5"),
        kinds=frozenset({"forged", "chain", "live", "projection"}),
    ),
    "row made by hand": Sabotage(
        do=insert_by_hand, kinds=frozenset({"forged", "live", "projection"})
    ),
    "function gutted": Sabotage(
        do=change_schema(
            f"create or replace function faregate.refuse_transaction_change() {GUTTED}"
        ),
        of_all={
            "guard": (
                "function faregate.refuse_transaction_change(): its body",
                "function faregate.refuse_transaction_change(): its definition",
            )
        },
    ),
    "policy using (true)": Sabotage(
        do=change_schema(f"alter policy {OWN} on {ROWS} using (true)"),
        of_all={"guard": (f"policy {OWN} on {ROWS}: its definition",)},
    ),
    "extra grant": Sabotage(
        do=change_schema(f"grant insert on {ROWS} to anon"),
        of_all={"guard": (f"table {ROWS}: role anon has insert",)},
    ),
    "older Redis": Sabotage(do=restore_older_redis),
    "lagging replica promoted": Sabotage(do=promote_lagging_replica),
    "wiped Redis": Sabotage(do=wipe_redis, of_all={"epoch": ("Redis is empty",)}),
    "older Postgres": Sabotage(do=restore_older_postgres),
    "Postgres too old": Sabotage(do=restore_too_old_postgres, kinds=frozenset({"gap", "live"})),
}
