"""The page of commands, from their help, arguments and options."""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from faregate.cli.app import app
from faregate.cli.conventions import EXIT_BROKEN, EXIT_NOT_EXACT, EXIT_WRONG_USE
from website.reference.markdown import code, page, table

_INTRODUCTION = """\
All commands read the [settings](settings.md). [operate.md](operate.md#access) lists the role of
Postgres and the user of Redis for each command. `faregate --install-completion` installs completion
for your shell, and `faregate --version` prints the version.

With `--json`, stdout has only JSON; [commands.schema.json](commands.schema.json) has a JSON Schema
for each command. Progress and errors go to stderr."""
_EXIT_CODES = {
    0: "Success.",
    EXIT_NOT_EXACT: (
        "The ledger is not exact; or `status`, `doctor` or `worker --check` found an error; or a"
        " part of the work is not done."
    ),
    EXIT_WRONG_USE: "Wrong use, such as an unknown user or a refused change. Nothing was changed.",
    EXIT_BROKEN: "A failure, such as a server that does not answer.",
}
_EXAMPLE = "Example: "
_OPTION = re.compile(r"(?<!\w)--[a-z][a-z-]*")


def commands_page() -> str:
    """Return the page."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    exit_codes = table(
        ["Exit code", "Meaning"], [[str(code), text] for code, text in _EXIT_CODES.items()]
    )
    parts = [_INTRODUCTION, exit_codes]
    panels: dict[str, list[str]] = {}
    for panel, name, command in _commands(group):
        panels.setdefault(panel, []).append(_command(name, command))
    for panel, commands in panels.items():
        parts += [f"## {panel}", *commands]
    return page("Commands", *parts)


def _commands(group: TyperGroup, path: str = "", panel: str = "") -> Iterator[tuple[str, str, Any]]:
    """Iterate over all commands: the heading that each stands under, its name, and itself."""
    for name, command in group.commands.items():
        under = panel or str(getattr(command, "rich_help_panel", ""))
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{path}{name} ", under)
        else:
            yield under, f"{path}{name}", command


def _command(name: str, command: Any) -> str:
    """Return the section of a command."""
    meaning, _, example = command.help.partition(_EXAMPLE)
    parts = [f"### faregate {name}", _with_options(meaning.strip())]
    parts.append(f"```console\n$ {' '.join(example.split())}\n```")
    if command.params:
        parts.append(table(["Argument or option", "Meaning"], map(_parameter, command.params)))
    return "\n\n".join(parts)


def _parameter(parameter: Any) -> tuple[str, str]:
    """Return the row of an argument or an option."""
    is_option = parameter.opts[0].startswith("-")
    names = [*parameter.opts, *(parameter.secondary_opts if parameter.default is True else ())]
    typed = " ".join(code(name if is_option else name.upper()) for name in names)
    facts = [_with_options(parameter.help or "")]
    if is_option and parameter.required:
        facts.append("Required.")
    if not is_option and not parameter.required:
        facts.append("May be left out.")
    if choices := _choices(parameter):
        facts.append(f"One of {choices}.")
    if parameter.default not in (None, "", False, True):
        facts.append(f"Default: {code(parameter.default)}.")
    return typed, " ".join(fact for fact in facts if fact)


def _with_options(text: str) -> str:
    """Mark the options that a help names as code, where it does not itself."""
    parts = text.split("`")
    parts[::2] = [_OPTION.sub(r"`\g<0>`", part) for part in parts[::2]]
    return "`".join(parts)


def _choices(parameter: Any) -> str:
    """Return the values that a parameter takes, if these are a few words."""
    kind = parameter.type_descriptor.annotation
    is_choice = isinstance(kind, type) and issubclass(kind, Enum)
    return ", ".join(code(one.value) for one in kind) if is_choice else ""
