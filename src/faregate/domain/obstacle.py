"""Obstacles: reasons why a database cannot be migrated as it is."""

from dataclasses import dataclass
from enum import StrEnum


class ObstacleKind(StrEnum):
    """The kinds of obstacles."""

    #: The encoding of the database is not UTF8.
    ENCODING = "encoding"
    #: The database accepts no changes: a standby, or read-only by default.
    STANDBY = "standby"
    #: Postgres is older than the oldest supported version.
    SERVER_VERSION = "server_version"
    #: The role that migrates lacks a right, or does not see every row.
    MISSING_RIGHT = "missing_right"
    #: An object of the application has a name of Faregate's.
    FOREIGN_NAME = "foreign_name"
    #: `auth.users` has no UUID as its primary key.
    USERS_KEY = "users_key"
    #: `public.profiles` has no UUID as a key.
    PROFILES_KEY = "profiles_key"
    #: The id of a profile is not that of its user.
    PROFILES_ID = "profiles_id"
    #: The id of a profile is that of its user, without a foreign key.
    PROFILES_REFERENCE = "profiles_reference"
    #: Profiles refer to another table of users.
    OTHER_USERS = "other_users"
    #: There are profiles without a user.
    LOST_PROFILES = "lost_profiles"
    #: A required column of a new profile has no default.
    REQUIRED_COLUMN = "required_column"
    #: `credits` has another type.
    CREDITS_COLUMN = "credits_column"
    #: Credits before the migration are no whole numbers, or out of range.
    CREDITS_VALUES = "credits_values"
    #: A constraint of the application forbids some balances.
    CREDITS_RULE = "credits_rule"
    #: `public.credit_transactions` is not the table of Faregate.
    TRANSACTIONS_SHAPE = "transactions_shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One reason why a database cannot be migrated as it is."""

    #: The kind of reason, for programs.
    kind: ObstacleKind
    #: The state that was found in the database.
    found: str
    #: The change that makes it fit.
    to_do: str
    #: The SQL by which `faregate migrate --adopt` removes it; None if there is none.
    adoption: str | None = None

    def __str__(self) -> str:
        return f"{self.found}; {self.to_do}"
