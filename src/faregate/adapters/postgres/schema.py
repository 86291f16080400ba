"""Compares the schema with that of the migrations: contents of its objects, not just names.

`make schema` generates `schema.tsv` from freshly migrated databases, and a test generates it again
and compares. It is part of the package for two reasons: a copy in the database could be changed
with the schema itself, and the migrations cannot be run beside the schema in use, since they name
it.

Databases may differ: Supabase has functions of its own, an application may make its profiles
itself, an operator may have run `faregate access`. A fact that holds in every layout is required. A
fact that holds in some is allowed. Other facts are differences, except objects that do not affect
Faregate, such as columns and indexes of an application.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from faregate.adapters.postgres.queries import statement
from faregate.adapters.postgres.roles import OF_SUPABASE, OWN_ROLES, OWNER
from faregate.adapters.postgres.schema_repairs import Change, repair

FILE: Final = "schema.sql"
_EXPECTED: Final = Path(__file__).with_name("schema.tsv")
#: The statements that read facts.
_READING: Final = (
    "read_relations",
    "read_profile_key",
    "read_schemas",
    "read_columns",
    "read_constraints",
    "read_indexes",
    "read_policies",
    "read_triggers",
    "read_functions",
    "read_rights",
    "read_roles",
    "read_memberships",
    "read_rules",
    "read_children",
    "read_settings",
    "read_server_settings",
)
_ROLES: Final = [*OF_SUPABASE, "authenticator", *(name for name in OWN_ROLES if name != OWNER)]
#: Tables to which the application may add objects.
_THEIRS: Final = "public.profiles", "auth.users"
#: Kinds of objects that change how a table works.
_FOREIGN_KINDS: Final = "policy", "trigger", "rule", "child table", "setting"


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One aspect of an object of the schema."""

    kind: str
    #: Quoted where it must be.
    name: str
    #: The table that it is part of; empty for none.
    host: str
    aspect: str
    value: str

    @property
    def subject(self) -> str:
        """The object."""
        return f"{self.kind} {self.name}" + (f" on {self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Expected:
    """The facts that the migrations make."""

    #: The facts that every layout of a database has.
    required: Set[Fact]
    #: Facts of some layouts, including the required ones.
    allowed: Set[Fact]


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """One difference between the schema and the migrations."""

    #: The object, such as `trigger profiles_credits_guard on public.profiles`.
    subject: str
    #: The difference, as the end of a sentence.
    detail: str
    #: Statements to run before the migrations are run again; empty if these suffice.
    repair_sql: tuple[str, ...]


@cache
def expected() -> Expected:
    """Return the facts that the migrations of this version make."""
    lines = [line.split("\t") for line in _EXPECTED.read_text(encoding="utf-8").splitlines()]
    facts = [(mark, Fact(*fields)) for mark, *fields in lines]
    return Expected(
        required=frozenset(fact for mark, fact in facts if mark == "required"),
        allowed=frozenset(fact for _, fact in facts),
    )


def read_facts(connection: psycopg.Connection) -> tuple[Set[Fact], str]:
    """Read the schema in the current transaction, and the name of its owner, quoted.

    From then on the search path is empty until the end of the transaction.
    """
    cursor = connection.cursor(row_factory=dict_row)
    known = {"roles": _ROLES, "own_roles": OWN_ROLES}
    (subjects,) = cursor.execute(statement("find_subjects", FILE), known).fetchall()
    facts = set[Fact]()
    for name in _READING:
        rows = cursor.execute(statement(name, FILE), {**known, **subjects})
        facts.update(_fact(row, subjects["owner_name"]) for row in rows)
    return facts, subjects["owner_name"]


def _fact(row: dict[str, Any], owner: str) -> Fact:
    is_owner = row["aspect"] in ("owner", "membership") and row["value"] == owner
    value = "<owner>" if is_owner else row["value"]
    return Fact(**{**row, "host": row["host"] or "", "value": value})


def find_differences(connection: psycopg.Connection) -> list[SchemaDifference]:
    """Compare the schema with the migrations, in the current transaction.

    Raises:
        psycopg.Error: Postgres does not answer.
    """
    found, owner = read_facts(connection)
    return [
        SchemaDifference(
            subject=change.subject, detail=_detail(change, owner), repair_sql=repair(change, owner)
        )
        for change in compare(expected(), found)
    ]


def compare(expected: Expected, found: Set[Fact]) -> list[Change]:
    """Return missing facts and facts that are not allowed, by aspect of an object."""
    there = {fact.subject for fact in found}
    known = {fact.subject for fact in expected.allowed}
    missing = {fact for fact in expected.required - found if _is_wanted(fact, there)}
    extra = {
        fact
        for fact in found - expected.allowed
        if fact.subject in known or _is_foreign(fact, found)
    }
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in sorted(missing | extra):
        whole = fact.subject not in there or fact.subject not in known
        groups.setdefault((fact.subject, "" if whole else fact.aspect), []).append(fact)
    return [
        Change(
            subject=subject,
            kind=facts[0].kind,
            name=facts[0].name,
            host=facts[0].host,
            aspect=aspect,
            is_absent=subject not in there,
            is_unknown=subject not in known,
            missing=_values(facts, missing),
            extra=_values(facts, extra),
            allowed=tuple(
                fact.value
                for fact in expected.allowed
                if (fact.subject, fact.aspect) == (subject, aspect)
            ),
            expected=_aspects(expected.allowed, subject),
            granted=_rights(found & expected.allowed, subject),
        )
        for (subject, aspect), facts in groups.items()
    ]


def _is_wanted(fact: Fact, there: Set[str]) -> bool:
    """Return whether a missing fact counts: not if its whole table or role is missing."""
    if fact.host and fact.host not in _THEIRS and f"table {fact.host}" not in there:
        return False
    absent = (name for name in OWN_ROLES if f"role {name}" not in there)
    words = f"{fact.aspect} {fact.value}".replace(",", " ").split()
    return not any(name in words for name in absent)


def _is_foreign(fact: Fact, found: Set[Fact]) -> bool:
    if fact.kind not in _FOREIGN_KINDS or fact.host in _THEIRS:
        return False
    return not any(one.aspect == "scope" for one in found if one.subject == fact.subject)


def _values(facts: Iterable[Fact], among: Set[Fact]) -> tuple[str, ...]:
    return tuple(fact.value for fact in facts if fact in among)


def _aspects(facts: Set[Fact], subject: str) -> dict[str, str]:
    """Return the aspects of an object that have one value."""
    return {fact.aspect: fact.value for fact in sorted(facts) if fact.subject == subject}


def _rights(facts: Set[Fact], subject: str) -> tuple[tuple[str, str], ...]:
    """Return the rights to an object: right and role."""
    prefix = "rights of "
    return tuple(
        (fact.value, fact.aspect.removeprefix(prefix))
        for fact in sorted(facts)
        if fact.subject == subject and fact.aspect.startswith(prefix)
    )


def _detail(change: Change, owner: str) -> str:
    if change.is_absent:
        return "is missing"
    extra, missing = (", ".join(values) for values in (change.extra, change.missing))
    if change.is_unknown:
        text = f"is not of Faregate: {extra}"
    elif change.aspect in _PHRASES:
        said = [_PHRASES[change.aspect].format(value) for value in change.extra]
        text = ", ".join(said)
    elif change.aspect.startswith("rights of "):
        role = change.aspect.removeprefix("rights of ")
        differences = [f"has {extra}"] if extra else []
        differences += [f"lacks {missing}"] if missing else []
        text = f"role {role} {' and '.join(differences)}"
    elif change.aspect == "body":
        text = "its body is not that of this version"
    else:
        wanted = change.expected.get(change.aspect, "none")
        text = f"its {change.aspect} is {extra or 'none'}, not {wanted}"
    return text.replace("<owner>", owner)


_PHRASES: Final = {"attribute": "has the attribute {}", "membership": "is a member of {}"}


def lines_of(facts: Expected) -> Iterator[str]:
    """Return the lines of `schema.tsv`."""
    for fact in sorted(facts.allowed):
        mark = "required" if fact in facts.required else "allowed"
        yield "\t".join((mark, *astuple(fact))) + "\n"
