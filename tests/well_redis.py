"""A Redis about which the doctor has nothing to say."""

from faregate.domain.server import LiveServer

WELL_REDIS = LiveServer(
    version="7.2.4",
    role="master",
    memory_used=100,
    memory_max=1_000,
    eviction_policy="noeviction",
    append_only=True,
    append_failed=False,
    append_fsync="everysec",
    replicas=0,
    needs_replicas=False,
    replica_lag_bytes=0,
    replica_lag_s=0,
    clock_ahead_ms=0,
)
