"""Obstacles: reasons why a database cannot be migrated as it is."""

from dataclasses import dataclass
from enum import StrEnum


class ObstacleKind(StrEnum):
    """The kinds of obstacles."""

    #: Its encoding is another one than UTF8.
    ENCODING = "encoding"
    #: It takes no changes: a standby, or read-only by default.
    STANDBY = "standby"
    #: Postgres is older than what is supported.
    SERVER_VERSION = "server_version"
    #: The role that migrates lacks a right, or does not see every row.
    MISSING_RIGHT = "missing_right"
    #: Something of the application has a name of Faregate's.
    FOREIGN_NAME = "foreign_name"
    #: `auth.users` does not know its users by a UUID.
    USERS_KEY = "users_key"
    #: `public.profiles` has no UUID for a key.
    PROFILES_KEY = "profiles_key"
    #: The id of a profile is no user's id.
    PROFILES_ID = "profiles_id"
    #: The id of a profile is a user's, and no foreign key says so.
    PROFILES_REFERENCE = "profiles_reference"
    #: Profiles refer to another table of users.
    OTHER_USERS = "other_users"
    #: There are profiles whose user does not exist.
    LOST_PROFILES = "lost_profiles"
    #: Nobody would fill a column of a new profile.
    REQUIRED_COLUMN = "required_column"
    #: `credits` is of another type.
    CREDITS_COLUMN = "credits_column"
    #: Credits before the migration are no whole numbers, or out of range.
    CREDITS_VALUES = "credits_values"
    #: A rule of the application forbids some balances.
    CREDITS_RULE = "credits_rule"
    #: `public.credit_transactions` is another table than that of Faregate.
    TRANSACTIONS_SHAPE = "transactions_shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One reason why a database cannot be migrated as it is."""

    #: The kind of reason, for programs.
    kind: ObstacleKind
    #: What the database has.
    found: str
    #: What makes it fit.
    to_do: str
    #: The SQL by which `faregate migrate --adopt` makes the database fit, where there is one.
    adoption: str | None = None

    def __str__(self) -> str:
        return f"{self.found}; {self.to_do}"
