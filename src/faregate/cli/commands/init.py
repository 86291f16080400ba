"""`faregate init`: writes a small project that works."""

from pathlib import Path
from typing import Annotated

import typer

from faregate.domain.errors import InvalidArgumentError

_TEMPLATES = Path(__file__).parents[1] / "project"
#: The files by their names here. They end in `.txt`, so that tools do not take them for files of
#: Faregate.
_FILES = {
    "app.py": "app.py.txt",
    "test_app.py": "test_app.py.txt",
    "pyproject.toml": "pyproject.toml.txt",
    ".gitignore": "gitignore.txt",
    "README.md": "README.md.txt",
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to create.")] = Path(),
) -> None:
    """Write a small project: an app that charges its requests, its tests, and a README.

    If one of its files exists, it writes nothing.

    Example: faregate init hello
    """
    if there := [name for name in _FILES if (folder / name).exists()]:
        raise InvalidArgumentError(f"{folder} has these files already: {', '.join(there)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in _FILES.items():
            (folder / name).write_bytes((_TEMPLATES / template).read_bytes())
    except OSError as error:
        raise InvalidArgumentError(f"cannot write the project: {error}") from error
    for name in _FILES:
        print(folder / name)
    print(
        "Next: faregate dev app:app"
        if folder == Path()
        else f"Next: cd {folder}; faregate dev app:app"
    )
