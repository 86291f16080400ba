"""`faregate rebuild` and `reopen`: make a ledger of an empty Redis, or take a move back."""

from typing import Annotated

import typer
from rich.progress import Progress

from faregate.adapters.redis.urls import check_url
from faregate.bootstrap import open_admin, open_audit, open_installer, open_stream
from faregate.cli.conventions import Json, error_console, print_result
from faregate.cli.display import counting, progress_on
from faregate.cli.settings import url_of_option
from faregate.config import Settings, read_settings
from faregate.domain.identity import LedgerIdentity
from faregate.ops.move import reopen as run_reopen
from faregate.ops.move import retire
from faregate.ops.rebuild import install_all, is_rebuilt, require_empty
from faregate.ops.rebuild import rebuild as run_rebuild
from faregate.ports import LedgerAdmin, Unfinished


def rebuild(
    all_users: Annotated[
        bool,
        typer.Option("--all-users", help="Install all users now, not at their first requests."),
    ] = False,
    former: Annotated[
        str | None,
        typer.Option("--from", help="The old Redis, still running: a URL, or env:NAME."),
    ] = None,
    shard_count: Annotated[
        int | None, typer.Option(min=1, max=100, help="The new number of shards.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a ledger in an empty Redis from the rows in Postgres.

    With --from the ledger moves there. The old Redis accepts nothing new, and is left once all of
    its records are rows and all of its holds have ended.

    Example: faregate rebuild --all-users --from redis://127.0.0.1:6379/0
    """
    settings, former_url = read_settings(), url_of_option(former, "--from")
    if former_url is not None:
        check_url(former_url, "--from")
    console = error_console()
    with (
        open_admin(settings) as admin,
        # Only on a terminal: in a log the bar would be an empty line.
        progress_on(console, is_hidden=not console.is_terminal) as progress,
    ):
        identity = admin.identity()
        target = _target(settings, identity, shard_count)
        former_settings = _with(target, identity.shard_count, former_url) if former_url else None
        if not (all_users or former_url) or not _is_rebuilt(target, former_settings, identity):
            _require_empty(target, identity)
            # Checked before the old Redis is given up, which cannot be undone.
            admin.check_owner()
            if former_settings is not None:
                _retire(former_settings, identity, progress)
            identity = _rebuild(target, identity, admin)
        result = {"epoch": identity.epoch}
        lines = [f"epoch {identity.epoch} has begun: gates serve"]
        if all_users:
            users = _install_all(target, admin, progress)
            result |= users
            lines.append(f"{users['installed']:,} of {users['users']:,} users were installed")
    print_result(result, lines, as_json=as_json)


def rebuild_empty(settings: Settings) -> None:
    """Make a ledger of an empty Redis; raises as `ops.rebuild.rebuild` does."""
    with open_admin(settings) as admin:
        identity = admin.identity()
        target = _target(settings, identity, None)
        _require_empty(target, identity)
        _rebuild(target, identity, admin)


def reopen(as_json: Json = False) -> None:
    """Cancel a move: reopen the Redis that `rebuild --from` has closed.

    Example: faregate reopen
    """
    settings = read_settings()
    with open_admin(settings) as admin:
        admin.check_owner()
        identity = admin.identity()
        former = _target(settings, identity, None)
    with open_stream(former) as stream, open_installer(former) as installer:
        run_reopen(stream, installer, identity)
    print_result(
        {"epoch": identity.epoch},
        [f"epoch {identity.epoch} continues: gates serve"],
        as_json=as_json,
    )


def _target(settings: Settings, identity: LedgerIdentity, shard_count: int | None) -> Settings:
    """Return the settings of the new Redis.

    Raises:
        ConfigurationError: The settings belong to another ledger.
    """
    if shard_count is None:
        identity.require_shards(settings.shard_count)
    return _with(settings, shard_count or settings.shard_count, settings.redis_url)


def _with(settings: Settings, shard_count: int, redis_url: str) -> Settings:
    return settings.model_copy(update={"shard_count": shard_count, "redis_url": redis_url})


def _is_rebuilt(target: Settings, former: Settings | None, identity: LedgerIdentity) -> bool:
    """Return whether the rebuild is done except for the installation of users."""
    if former is not None:
        with open_stream(former) as stream:
            if any(stream.epochs()):
                return False
    with open_stream(target) as stream:
        return is_rebuilt(stream, identity)


def _require_empty(target: Settings, identity: LedgerIdentity) -> None:
    """Check the new Redis before the old one is closed."""
    for count in sorted({identity.shard_count, target.shard_count}):
        with open_stream(_with(target, count, target.redis_url)) as stream:
            require_empty(stream)


def _retire(former: Settings, identity: LedgerIdentity, progress: Progress) -> None:
    task = progress.add_task("remaining records and holds", total=None)

    def update(left: Unfinished) -> None:
        progress.update(task, description=f"{left.records:,} records, {left.holds:,} holds left")

    with open_stream(former) as stream, open_installer(former) as installer:
        retire(stream, installer, identity, update)


def _rebuild(target: Settings, identity: LedgerIdentity, admin: LedgerAdmin) -> LedgerIdentity:
    with open_stream(target) as stream, open_installer(target) as installer:
        return run_rebuild(stream, installer, admin, identity, target.shard_count)


def _install_all(target: Settings, admin: LedgerAdmin, progress: Progress) -> dict[str, int]:
    with (
        open_stream(target) as stream,
        open_installer(target) as installer,
        open_audit(target) as audit,
    ):
        done = install_all(stream, installer, audit, admin, counting(progress, "users installed"))
    return {"users": done.users, "installed": done.installed}
