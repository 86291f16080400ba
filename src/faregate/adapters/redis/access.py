"""The Redis users that Faregate runs as, and the one list of their commands and keys.

Each command is listed as it might be sent, with a key that nothing else uses. So the list says
which rights to grant, and a server can check whether they are granted (`lua/allowed.lua`). Commands
inside scripts and functions need rights, too: Redis checks each of them.

CLIENT SETINFO, by which redis-py sends its name, is missing: Redis 7.0 does not know it, and a
refusal has no effect.
"""

from dataclasses import dataclass
from typing import Final

_CONTAINERS: Final = {"client", "cluster", "function", "script", "sentinel", "xgroup", "xinfo"}
#: Keys of the ledger and of RQ's queue that no script and no job uses.
_KEY: Final = "fg:{0}:probe"
_JOB: Final = "rq:probe"

_SELECT: Final = ("select 0",)
_RUN_SCRIPTS: Final = ("evalsha 0 0", "script exists 0", "script load return", "time")
_RUN_FUNCTIONS: Final = ("fcall f 0", "function list", "function load code")
#: Sent to a cluster alone: for its topology, before a command for a slot that moves, and to a node
#: that did not answer. They are granted everywhere, so that a ledger can move to a cluster.
_CLUSTER: Final = ("asking", "cluster slots", "ping")
#: What `doctor` asks the nodes of a cluster, and a worker at its start.
_CLUSTER_STATE: Final = ("cluster info", "cluster nodes", "info")
#: Waits for a replica; and for its disk, which Redis 7.0 does not know.
_WAIT: Final = ("wait 1 0",)
_WAIT_FOR_DISK: Final = "waitaof"

#: Commands of a gate and of its scripts.
_DECIDE: Final = (
    f"exists {_KEY}",
    f"get {_KEY}",
    f"hdel {_KEY} field",
    f"hget {_KEY} field",
    f"hgetall {_KEY}",
    f"hincrby {_KEY} field 1",
    f"hlen {_KEY}",
    f"hmget {_KEY} field",
    f"hset {_KEY} field value",
    f"mget {_KEY}",
    f"mset {_KEY} value",
    f"persist {_KEY}",
    f"pexpire {_KEY} 1",
    f"set {_KEY} value",
    f"unlink {_KEY}",
    f"xadd {_KEY} * field value",
    f"xrange {_KEY} - +",
    f"xrevrange {_KEY} + -",
    f"zadd {_KEY} 1 member",
    f"zcount {_KEY} 0 1",
    f"zrangebyscore {_KEY} 0 1",
    f"zrem {_KEY} member",
    f"zremrangebyscore {_KEY} 0 1",
)
#: Commands of the drain and the sweeper, and of the scripts `stored`, `end`, `erase`, `credit` and
#: `install`.
_DRAIN: Final = (
    "cluster nodes",
    f"del {_KEY}",
    f"exists {_KEY}",
    f"get {_KEY}",
    f"hdel {_KEY} field",
    f"hget {_KEY} field",
    f"hgetall {_KEY}",
    f"hkeys {_KEY}",
    f"hmget {_KEY} field",
    f"hset {_KEY} field value",
    "info memory",
    f"mget {_KEY}",
    f"mset {_KEY} value",
    f"persist {_KEY}",
    f"pexpire {_KEY} 1",
    "scan 0",
    f"set {_KEY} value",
    f"unlink {_KEY}",
    f"xadd {_KEY} * field value",
    f"xlen {_KEY}",
    f"xrange {_KEY} - +",
    f"xread streams {_KEY} 0",
    f"xrevrange {_KEY} + -",
    f"xtrim {_KEY} minid 0",
    f"zrange {_KEY} 0 1",
    f"zrangebyscore {_KEY} 0 1",
    f"zrem {_KEY} member",
)
#: Commands of RQ 3: of a worker, its jobs and its registries, and of the ticker, which enqueues
#: jobs.
_QUEUE: Final = (
    f"blmove {_JOB} {_JOB} left right 0",
    "client info",
    "client setname name",
    f"del {_JOB}",
    "discard",
    "exec",
    f"exists {_JOB}",
    f"expire {_JOB} 1",
    f"get {_JOB}",
    f"hdel {_JOB} field",
    f"hexists {_JOB} field",
    f"hget {_JOB} field",
    f"hgetall {_JOB}",
    f"hincrby {_JOB} field 1",
    f"hincrbyfloat {_JOB} field 1",
    f"hmget {_JOB} field",
    f"hset {_JOB} field value",
    "info",
    f"llen {_JOB}",
    f"lmove {_JOB} {_JOB} left right",
    f"lpop {_JOB}",
    f"lpos {_JOB} value",
    f"lpush {_JOB} value",
    f"lrange {_JOB} 0 1",
    f"lrem {_JOB} 1 value",
    "multi",
    f"persist {_JOB}",
    "ping",
    f"rpush {_JOB} value",
    f"sadd {_JOB} member",
    f"scard {_JOB}",
    f"set {_JOB} value",
    f"smembers {_JOB}",
    f"srem {_JOB} member",
    "subscribe rq:pubsub:probe",
    "unsubscribe",
    "unwatch",
    f"watch {_JOB}",
    f"xadd {_JOB} * field value",
    f"xrevrange {_JOB} + -",
    f"zadd {_JOB} 1 member",
    f"zcard {_JOB}",
    f"zrange {_JOB} 0 1",
    f"zrangebyscore {_JOB} 0 1",
    f"zrem {_JOB} member",
    f"zremrangebyscore {_JOB} 0 1",
    f"zscore {_JOB} member",
)
#: Commands of the read-only command line: `faregate reconcile`, `status`, `users`, ... CONFIG GET,
#: which `doctor` sends, is missing, since it also shows passwords.
_AUDIT: Final = (
    f"exists {_JOB}",
    f"get {_KEY}",
    f"hgetall {_KEY}",
    f"hmget {_KEY} field",
    f"mget {_KEY}",
    f"smembers {_JOB}",
    "time",
    f"xlen {_KEY}",
    f"xrange {_KEY} - +",
    f"zrangebyscore {_KEY} 0 1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUser:
    """A user of Redis, and the rights that it needs."""

    name: str
    #: The programs that run as this user.
    purpose: str
    #: Patterns of keys and channels, as ACL SETUSER takes them.
    patterns: tuple[str, ...]
    channels: tuple[str, ...] = ()
    #: The user's commands, each as it might be sent.
    samples: tuple[str, ...]
    #: A command that the user needs if the server knows it.
    newer_command: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """The names of the commands, as ACL SETUSER takes them."""
        return tuple(sorted({command_name(sample) for sample in self.samples}))

    @property
    def acl(self) -> str:
        """The command that makes the user or, if there is one, gives it these rights and no others.

        It sets no password. A new user has none, and cannot log in until it gets one.
        """
        rights = (*self.patterns, *self.channels, "-@all", *(f"+{name}" for name in self.commands))
        cleared = "resetkeys", "resetchannels", "clearselectors"
        return " ".join(("ACL SETUSER", self.name, *cleared, *rights))

    @property
    def newer_acl(self) -> str:
        """The command that adds what older servers refuse as unknown; empty if there is nothing."""
        return f"ACL SETUSER {self.name} +{self.newer_command}" if self.newer_command else ""


GATE: Final = RedisUser(
    name="faregate_gate",
    purpose="an API with a gate; faregate rebuild, renew, journal import",
    patterns=("~fg:*",),
    samples=_SELECT + _CLUSTER + _RUN_SCRIPTS + _RUN_FUNCTIONS + _DECIDE + _WAIT,
    newer_command=_WAIT_FOR_DISK,
)
#: The rights of a worker on the Redis of the ledger and on that of the queue, which may be the
#: same.
WORKER_ON_LEDGER: Final = _SELECT + _CLUSTER + _CLUSTER_STATE + _RUN_SCRIPTS + _DRAIN + _WAIT
WORKER_ON_QUEUE: Final = _SELECT + _RUN_SCRIPTS + _QUEUE
WORKER: Final = RedisUser(
    name="faregate_worker",
    purpose="faregate worker, on the Redis of the ledger and on that of the queue",
    patterns=("~fg:*", "~rq:*", "~faregate:worker:*"),
    channels=("&rq:pubsub:*",),
    samples=WORKER_ON_LEDGER + WORKER_ON_QUEUE,
    newer_command=_WAIT_FOR_DISK,
)
OPERATOR: Final = RedisUser(
    name="faregate_operator",
    purpose="faregate reconcile, verify, status, doctor, and all that only shows",
    patterns=("%R~fg:*", "%R~rq:workers:*", "%R~rq:worker:*", "%R~rq:suspended"),
    samples=_SELECT + _CLUSTER + _CLUSTER_STATE + _AUDIT,
)
#: A repair creates a ledger in an empty Redis, and reverses refunds by an adjustment. Its script
#: `align` and its comparison need no further rights.
REPAIRER: Final = RedisUser(
    name="faregate_repairer",
    purpose="faregate repair",
    patterns=GATE.patterns,
    samples=GATE.samples,
    newer_command=GATE.newer_command,
)
USERS: Final = (GATE, WORKER, OPERATOR, REPAIRER)
#: The user of sentinels, which are servers of their own with users of their own.
SENTINEL: Final = RedisUser(
    name="faregate_sentinel",
    purpose="all programs, on the sentinels",
    patterns=(),
    samples=("ping", "sentinel ckquorum service", "sentinel masters"),
)


def command_name(sample: str) -> str:
    """Return the name of a command as ACL SETUSER takes it: `get`, `xinfo|groups`."""
    first, *rest = sample.split()
    return f"{first}|{rest[0]}" if first in _CONTAINERS else first
