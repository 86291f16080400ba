"""Statements that restore the parts of a changed schema that the migrations do not restore.

They run before the migrations, as the owner of the tables. Names, definitions and rights come
quoted from the catalogs or from `schema.tsv`, and never from outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One aspect of an object that differs from the migrations."""

    subject: str
    kind: str
    name: str
    #: The table that the object is part of; empty for none.
    host: str
    #: Empty where the whole object is missing or unknown.
    aspect: str
    is_absent: bool
    is_unknown: bool
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    #: The values that the aspect may have.
    allowed: tuple[str, ...]
    #: The aspects of the object, as the migrations make it.
    expected: Mapping[str, str]
    #: The correct rights to it: right and role.
    granted: tuple[tuple[str, str], ...]


def repair(change: Change, owner: str) -> tuple[str, ...]:
    """Return the statements for one difference; none if the migrations restore it."""
    if change.aspect.startswith("rights of "):
        found = _rights(change)
    elif change.aspect == "owner":
        found = [f"alter {change.kind} {change.name} owner to <owner>"]
    elif change.kind in _REPAIRS:
        found = _REPAIRS[change.kind](change)
    else:
        found = []
    return tuple(one.replace("<owner>", owner) for one in found)


def _rights(change: Change) -> list[str]:
    """Revoke excess rights; the migrations grant missing ones."""
    role = change.aspect.removeprefix("rights of ")
    on = f"on {change.kind.replace('view', 'table')} {change.name}"
    revokes = []
    for right in change.extra:
        verb = right.removesuffix(" with grant option")
        option = "grant option for " if verb in change.allowed else ""
        revokes.append(f"revoke {option}{verb} {on} from {role} cascade")
    return revokes


def _table(change: Change) -> list[str]:
    if change.aspect == "storage":
        return [f"alter table {change.name} set logged"]
    if change.aspect == "row level security":
        wanted = change.expected["row level security"]
        verbs = ("enable" if wanted != "off" else "disable", "" if wanted == "forced" else "no ")
        return [
            f"alter table {change.name} {verbs[0]} row level security",
            f"alter table {change.name} {verbs[1]}force row level security",
        ]
    return []


def _view(change: Change) -> list[str]:
    """Create the view again, since `create or replace` in a migration keeps its columns."""
    if change.is_absent or change.aspect not in ("definition", "options"):
        return []
    return [
        f"drop view {change.name}",
        f"create view {change.name} as {change.expected['definition']}",
        f"alter view {change.name} owner to <owner>",
        *(f"grant {right} on {change.name} to {role}" for right, role in change.granted),
    ]


def _function(change: Change) -> list[str]:
    return [f"drop function {change.name}"] if change.aspect == "result" else []


def _column(change: Change) -> list[str]:
    table, column, wanted = f"alter table {change.host}", change.name, change.expected
    no_default = wanted["default"] == "none"
    set_default = "" if no_default else f"set default {wanted['default']}"
    if wanted["default"].startswith("generated"):
        set_default = f"add {wanted['default']}"
    if change.is_absent:
        default = set_default.removeprefix("set ").removeprefix("add ")
        nulls = "not null" if wanted["nulls"] == "refused" else ""
        words = f"{table} add column {column} {wanted['type']} {default} {nulls}"
        return [" ".join(words.split())]
    verb = "set" if wanted["nulls"] == "refused" else "drop"
    return {
        "type": [
            f"{table} alter column {column} type {wanted['type']} using {column}::{wanted['type']}"
        ],
        "nulls": [
            *([f"{table} alter column {column} drop not null"] if change.extra == _HALF else []),
            f"{table} alter column {column} {verb} not null",
        ],
        "default": [f"{table} alter column {column} {set_default or 'drop default'}"],
    }[change.aspect]


#: A column whose older rows may hold null.
_HALF: Final = ("refused in new rows",)


def _constraint(change: Change) -> list[str]:
    add = f"alter table {change.host} add constraint {change.name} {change.expected['definition']}"
    drop = f"alter table {change.host} drop constraint {change.name}"
    return [add] if change.is_absent else [drop, add]


def _index(change: Change) -> list[str]:
    return [] if change.is_absent else [f"drop index {change.name}"]


def _policy(change: Change) -> list[str]:
    """Create the policy again, since it may come from `faregate access` and from no migration."""
    if change.is_absent:
        return []
    policy = f"policy {change.name} on {change.host}"
    anew = [] if change.is_unknown else [f"create {policy} {change.expected['definition']}"]
    return [f"drop {policy}", *anew]


def _trigger(change: Change) -> list[str]:
    if change.is_unknown:
        return [f"drop trigger {change.name} on {change.host}"]
    if change.aspect == "state":
        return [f"alter table {change.host} enable trigger {change.name}"]
    if change.aspect == "definition":
        definition = change.expected["definition"]
        return [definition.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)]
    return []


def _role(change: Change) -> list[str]:
    if change.aspect == "membership":
        return [f"revoke {role} from {change.name}" for role in change.extra]
    return [f"alter role {change.name} no{attribute}" for attribute in change.extra]


_REPAIRS: Final[Mapping[str, Callable[[Change], list[str]]]] = {
    "table": _table,
    "view": _view,
    "function": _function,
    "column": _column,
    "constraint": _constraint,
    "index": _index,
    "policy": _policy,
    "trigger": _trigger,
    "role": _role,
    "rule": lambda change: [f"drop rule {change.name} on {change.host}"],
    "child table": lambda change: [f"alter table {change.name} no inherit {change.host}"],
    "setting": lambda change: (
        [] if change.host == "server" else [f"alter {change.host} reset {change.name}"]
    ),
}
