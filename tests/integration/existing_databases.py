"""Databases of applications as Faregate finds them: their shape, and how users sign up there."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from faregate.cli.servers import Binaries
from integration.pg_helpers import (
    acting_as,
    as_project_owner,
    cloned_database,
    sign_up,
    supabase_database,
)

FOLDER = Path(__file__).parent / "existing"
GUIDE = Path(__file__).resolve().parents[2] / "docs/existing-database.md"
#: How the guide finds the credits of users with whole numbers.
JOINED = "inner join public.myapp_users as u on m.user_id = u.id"


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape, by the name of its file."""

    name: str
    #: Its table of users, where that is not auth.users.
    users: str = ""
    #: How the application signs somebody up, and finds the UUID of the user.
    sign_up: str = ""
    #: The section of the guide that it follows before and after the migration.
    section: str = ""
    #: Where it keeps credits, for the query of the guide that copies them.
    joined: str = JOINED
    #: What its users have: the UUIDs are known only afterwards.
    balances: tuple[int, ...] = (0, 50)

    @property
    def is_supabase(self) -> bool:
        return self.name.startswith("supabase")

    @contextmanager
    def database(self, admin_url: str) -> Iterator[tuple[str, str]]:
        """Make it; give its URL as superuser, and as the role that migrates."""
        text = (FOLDER / f"{self.name}.sql").read_text("utf-8")
        if not self.is_supabase:
            with cloned_database(admin_url, "template0") as url:
                with psycopg.connect(url) as connection:
                    connection.execute(text.encode())
                yield url, url
            return
        with supabase_database(admin_url) as url:
            with (
                psycopg.connect(url, autocommit=True) as connection,
                acting_as(connection, "project_owner"),
            ):
                connection.execute("drop table public.profiles")
                connection.execute(text.encode())
            yield url, as_project_owner(url)

    def guided(self, place: int) -> str:
        """A block of SQL of its section of the guide, for its own table of users."""
        if not self.section:
            return ""
        text = GUIDE.read_text("utf-8").partition(f"## {self.section}\n")[2]
        block: str = re.findall(r"^```sql\n(.*?)^```", text, re.M | re.S)[place]
        block = block.replace(JOINED, self.joined)
        return block.replace("public.myapp_users", f"public.{self.users}")

    def new_user(self, connection: psycopg.Connection) -> UUID:
        """Sign somebody up as the application does."""
        if not self.sign_up:
            return sign_up(connection)
        *before, last = self.sign_up.split(";")
        with connection.transaction():
            for statement in before:
                connection.execute(statement.encode())
            ((user,),) = connection.execute(last.encode()).fetchall()
        assert isinstance(user, UUID)
        return user


ADOPTED = (
    Shape("supabase_starter", balances=(3, 3)),
    Shape("supabase_user_id", balances=(3, 3)),
    Shape(
        "django",
        users="auth_user",
        joined="inner join public.accounts_profile as u on m.user_id = u.user_id",
        section="Users with whole numbers (Django, Rails)",
        sign_up="insert into auth_user"
        " (password, is_superuser, username, email, is_staff, is_active, date_joined)"
        " values ('!', false, 'eve', 'eve@example.org', false, true, now());"
        "insert into accounts_profile (user_id, credits)"
        " select id, 0 from auth_user where username = 'eve';"
        "select m.id from myapp_credit_users as m join auth_user as u on m.user_id = u.id"
        " where u.username = 'eve'",
    ),
    Shape(
        "rails",
        users="users",
        section="Users with whole numbers (Django, Rails)",
        sign_up="insert into users (email, created_at, updated_at)"
        " values ('eve@example.org', now(), now());"
        "select m.id from myapp_credit_users as m join users as u on m.user_id = u.id"
        " where u.email = 'eve@example.org'",
    ),
    Shape(
        "plain_bigint",
        users="users",
        section="Users with whole numbers (Django, Rails)",
        sign_up="insert into users (email) values ('eve@example.org');"
        "select m.id from myapp_credit_users as m join users as u on m.user_id = u.id"
        " where u.email = 'eve@example.org'",
    ),
    Shape(
        "plain_uuid",
        users="users",
        section="Users with a UUID",
        sign_up="insert into users (email) values ('eve@example.org') returning id",
    ),
)
_RAILS = {"profiles_key", "credits_column", "credits_values", "required_column"}
#: The kinds of obstacles, with `--adopt` and without.
REFUSED = (
    ("supabase_user_id", False, {"profiles_id"}),
    ("rails_profiles", False, _RAILS),
    ("rails_profiles", True, _RAILS),
    ("plain_profiles", False, {"other_users"}),
    ("plain_profiles", True, {"other_users"}),
)


def dump(binaries: Binaries, url: str) -> list[str]:
    """All of a database as lines: schema and data. PostgreSQL 18 begins with a random word."""
    command = [str(binaries.postgres / "pg_dump"), url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestr"))]
