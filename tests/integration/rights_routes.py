"""How the matrix of rights tries them: each route to a table, as a statement."""

from typing import Final

from psycopg import errors

TABLES: Final = {
    "rows": "public.credit_transactions",
    "profiles": "public.profiles",
    "users": "auth.users",
    "letters": "faregate.dead_letters",
    "runs": "faregate.reconciliations",
    "keys": "faregate.api_keys",
    **{
        name: f"faregate.{name}"
        for name in (
            *("balances", "ledger", "batches", "migrations", "deletions", "repairs", "orders"),
        )
    },
    "accepted": "faregate.acknowledgements",
    "forks": "faregate.forks",
    "lost": "faregate.lost_records",
}
NEW_ROWS: Final = {
    "rows": ("user_id, amount, type, description", "'{other}', 5, 'add', 'by hand'"),
    "profiles": ("id", "'{other}'"),
    "balances": ("user_id", "'{other}'"),
    "ledger": ("shard_count, starting_credits, epoch", "1, 1, 1"),
    "letters": (
        "shard, stream_id, kind, reason, payload, payload_digest",
        "0, '9-9', 'fork', 'x', 'x', sha256('x')",
    ),
    "batches": (
        "shard, number, epoch, first_position, last_position, first_ordinal, last_ordinal,"
        " ordinal_max, record_count, last_digest, leaves, chain",
        "0, 2, 1, '2-1', '2-1', 2, 2, 2, 1, sha256(''), '', sha256('')",
    ),
    "keys": ("id, user_id, name, secret_hash", "gen_random_uuid(), '{user}', 'k', sha256('')"),
    "runs": (
        "began_at, ended_at, user_count, drift_user_count, pending_count, dead_letter_count,"
        " finding_counts, findings",
        "now(), now(), 0, 0, 0, 0, '{{}}', '[]'",
    ),
    "migrations": ("name, checksum", "'x', 'x'"),
    "deletions": ("digest", "sha256('x')"),
    "repairs": (
        "finding_id, kind, action, detail, actor, reason",
        "'x', 'x', 'x', 'x', 'x', 'x'",
    ),
    "accepted": ("finding_id, kind, detail, actor, reason", "'y', 'x', 'x', 'x', 'x'"),
    "orders": (
        "id, user_id, amount, type, description",
        "gen_random_uuid(), '{user}', 1, 'add', 'x'",
    ),
    "forks": ("shard, epoch", "0, 1"),
    "lost": ("fork_id, transaction_id", "1, gen_random_uuid()"),
    "users": ("id", "gen_random_uuid()"),
}
CHANGES: Final = {
    "rows": "amount = 1000",
    "profiles": "credits = 1000",
    "balances": "credits = 1000",
    "ledger": "epoch = 9",
    "letters": "reason = 'x'",
    "batches": "record_count = 9",
    "keys": "last_used_at = now()",
    "runs": "user_count = 9",
    "migrations": "checksum = 'x'",
    "deletions": "deleted_at = now()",
    "repairs": "balance_after = 9",
    "accepted": "reason = 'y'",
    "orders": "amount = 1000",
    "forks": "epoch = 9",
    "lost": "is_reported = true",
    "users": "created_at = now()",
}
#: The routes, by the letter of what they do.
ROUTES: Final = {
    "select": ("r", "select * from {table}"),
    "copy to": ("r", "copy (select * from {table}) to stdout"),
    "insert": ("a", "insert into {table} ({columns}) values ({values})"),
    "copy from": ("a", "copy {table} ({columns}) from stdin"),
    "merge, insert": (
        "a",
        "merge into {table} using (select 1) as s on false"
        " when not matched then insert ({columns}) values ({values})",
    ),
    "update": ("w", "update {table} set {change}"),
    "merge, update": (
        "w",
        "merge into {table} using (select 1) as s on true when matched then update set {change}",
    ),
    "delete": ("d", "delete from {table}"),
    "merge, delete": (
        "d",
        "merge into {table} using (select 1) as s on true when matched then delete",
    ),
    "truncate": ("t", "truncate {table}"),
    "truncate, cascade": ("t", "truncate {table} cascade"),
    "trigger": (
        "x",
        "create trigger added before insert on {table}"
        " for each row execute function suppress_redundant_updates_trigger()",
    ),
}
REFUSALS: Final = (
    errors.InsufficientPrivilege,
    # The table itself refuses.
    errors.RestrictViolation,
    # Row level security and COPY; TRUNCATE of what others refer to; what cannot be done to views.
    errors.FeatureNotSupported,
    errors.WrongObjectType,
)
