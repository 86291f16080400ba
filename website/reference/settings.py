"""The page of settings, from the comments, types and bounds of `Settings`."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from faregate.config import PREFIX, Environment, Settings
from website.reference.markdown import code, page

_INTRODUCTION = """\
Settings are variables of the environment. In code they are arguments of `Settings`, with names in
lower case and without `FAREGATE_`. `faregate config` prints each value with its source, without
passwords. An unknown variable `FAREGATE_...` is an error, so no misspelt one is ignored."""
_FIELD = re.compile(r"    (\w+): ")


@dataclass(frozen=True, slots=True)
class _Documented:
    """A setting with the comment that stands above it, and the heading of its group."""

    name: str
    group: str
    meaning: str


def settings_page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    group = ""
    for setting in _documented():
        if setting.group != group:
            group = setting.group
            parts.append(f"## {group}")
        parts.append(f"### {PREFIX}{setting.name.upper()}")
        parts.append(_facts(Settings.model_fields[setting.name]))
        parts.append(setting.meaning)
    return page("Settings", *parts)


def _documented() -> Iterator[_Documented]:
    """Read the settings in the order of the code.

    A comment after an empty line is the heading of a group; `#:` above a setting is its meaning.
    """
    group, meaning, before = "", [], ""
    for line in inspect.getsource(Settings).splitlines():
        text = line.strip()
        if text.startswith("#: "):
            meaning.append(text[3:])
        elif text.startswith("# ") and not before:
            group = text[2:]
        elif (field := _FIELD.match(line)) and field[1] in Settings.model_fields:
            yield _Documented(field[1], group, " ".join(meaning))
            meaning = []
        before = text


def _facts(field: FieldInfo) -> str:
    """Return the type, the bounds and the default of a setting, in one line."""
    shown = _value(field.default)
    if field.default_factory is not None:
        shown = ", ".join(f"{_value(_default_of(field, one))} in {one}" for one in Environment)
    return f"{_kind(field)}. Default: {shown}."


def _default_of(field: FieldInfo, environment: Environment) -> object:
    return field.get_default(call_default_factory=True, validated_data={"environment": environment})


def _kind(field: FieldInfo) -> str:
    """Return the type of a setting with its bounds."""
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(map(code, kind))
    if kind is bool:
        return "`true` or `false`"
    if kind is str:
        return "Text"
    bounds = {type(bound): bound for bound in field.metadata}
    least, above, most = bounds.get(Ge), bounds.get(Gt), bounds.get(Le)
    parts = ["A whole number" if kind is int else "A number"]
    parts += [f"from {least.ge:,}"] if least else []
    parts += [f"above {above.gt:,}"] if above else []
    parts += [f"to {most.le:,}"] if most else []
    return " ".join(parts)


def _value(value: object) -> str:
    """Return a value as it is written in a variable."""
    if value == "":
        return "empty"
    return code(str(value).lower() if isinstance(value, bool) else value)
