"""The pages of the API: each public name is there, and so is each field of a value."""

from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from website.navigation import navigation

MODULES = [module.path for part in navigation() for module in part.modules]


def expected(module: str) -> set[str]:
    """The public names of a module, with the fields and members of each."""
    loaded, parent = import_module(module), module.rpartition(".")[0]
    # A name that two modules have is explained in the first.
    public = {name for name in loaded.__all__ if not name.startswith("_")}
    names = public - set(dir(import_module(parent)) if parent else ())
    members = {f"{name}.{part}" for name in names for part in parts(getattr(loaded, name))}
    return {f"{module}.{name}" for name in names | members}


def parts(value: Any) -> list[str]:
    """The fields of a dataclass, or the members of an enum."""
    if not isinstance(value, type):
        return []
    if issubclass(value, Enum):
        return list(value.__members__)
    if not is_dataclass(value):
        return []
    return [field.name for field in fields(value) if not field.name.startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_and_field_is_explained(site: Path, module: str) -> None:
    """Sphinx shows a field only if it has a comment, and a class or a function by its docstring."""
    page = (site / f"api/{module}.html").read_text("utf-8")
    names = expected(module)
    assert names
    assert {name for name in names if f'id="{name}"' not in page} == set()
