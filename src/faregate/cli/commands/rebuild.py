"""Makes a ledger of an empty Redis: one that was lost, or another one."""

from typing import Annotated

import typer

from faregate.bootstrap import open_admin, open_audit, open_installer, open_stream
from faregate.cli.conventions import Json, error_console, tell
from faregate.cli.display import counting, progress_on
from faregate.config import Settings, read_settings
from faregate.domain.errors import ConfigurationError
from faregate.ops.rebuild import Installed, install_all, is_rebuilt
from faregate.ops.rebuild import rebuild as run_rebuild


def rebuild(
    all_users: Annotated[
        bool,
        typer.Option("--all-users", help="Install all users now, not each at the first request."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a ledger of an empty Redis, from the rows in Postgres.

    Example: faregate rebuild --all-users
    """
    settings = read_settings()
    with open_admin(settings) as admin:
        identity = admin.identity()
        if identity.shard_count != settings.shard_count:
            raise ConfigurationError(
                f"the ledger has {identity.shard_count} shards, "
                f"the settings say {settings.shard_count}"
            )
        with open_stream(settings) as target, open_installer(settings) as installer:
            if not (all_users and is_rebuilt(target, identity)):
                identity = run_rebuild([target], installer, admin, settings.shard_count)
    told: dict[str, int] = {"epoch": identity.epoch}
    lines = [f"epoch {identity.epoch} has begun: gates serve"]
    if all_users:
        done = _install_all(settings)
        told |= {"users": done.users, "installed": done.installed}
        lines.append(f"{done.installed:,} of {done.users:,} users were installed")
    tell(told, lines, as_json=as_json)


def _install_all(settings: Settings) -> Installed:
    console = error_console()
    with (
        open_stream(settings) as target,
        open_installer(settings) as installer,
        open_audit(settings) as audit,
        open_admin(settings) as admin,
        # In a log it would be an empty line before an error.
        progress_on(console, is_hidden=not console.is_terminal) as progress,
    ):
        return install_all(target, installer, audit, admin, counting(progress, "users installed"))
