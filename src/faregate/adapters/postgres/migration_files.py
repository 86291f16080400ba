"""The migrations as files: `migrations/YYYYMMDDHHMMSS_name.sql`, applied in the order of the names.

Each is idempotent and ends in a verification block that raises an error. So it verifies itself
wherever it is applied: by this runner, by `supabase db push`, or by hand.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from faregate.domain.errors import MigrationError

_PACKAGE = "faregate.adapters.postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file, in hexadecimal."""
        return sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the migrations of this version, in the order in which they are applied."""
    found = [
        Migration(name=file.name, sql=file.read_text(encoding="utf-8"))
        for file in (files(_PACKAGE) / "migrations").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.name)


def bootstrap_sql() -> str:
    """Return the SQL that gives a plain Postgres the parts of Supabase that migrations need."""
    return (files(_PACKAGE) / "bootstrap.sql").read_text(encoding="utf-8")


def export_migrations(directory: Path) -> list[Path]:
    """Write the migrations into `directory`, named so that `supabase db push` takes them.

    Returns:
        The files, including those that existed with the same content.

    Raises:
        MigrationError: A file of the same name has other content, or one cannot be written.
            Nothing that was there has been changed.
    """
    targets = [(directory / migration.name, migration.sql) for migration in migrations()]
    try:
        for path, sql in targets:
            if path.exists() and path.read_text(encoding="utf-8") != sql:
                raise MigrationError(f"{path} exists with other content; remove it first")
        directory.mkdir(parents=True, exist_ok=True)
        for path, sql in targets:
            path.write_text(sql, encoding="utf-8")
    except OSError as error:
        raise MigrationError(f"cannot export to {directory}: {error.strerror}") from error
    return [path for path, _ in targets]
