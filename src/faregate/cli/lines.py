"""Reads files of any size line by line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from faregate.domain.errors import InvalidArgumentError

#: The longest line of a log. Longer ones are read in parts of this size, and skipped.
LINE_BYTES_MAX = 65_536

T = TypeVar("T")


def parsed_lines(path: Path, parse: Callable[[str], T | None]) -> Iterator[T | None]:
    """Iterate over the lines of a file as `parse` returns them: None for an unusable one.

    Raises:
        InvalidArgumentError: The file is missing, no regular file, or unreadable.
    """
    if not path.is_file():
        raise InvalidArgumentError(
            f"{path} is not a file" if path.exists() else f"{path} does not exist"
        )
    try:
        with path.open("rb") as file:
            is_rest = False
            while line := file.readline(LINE_BYTES_MAX):
                is_end = line.endswith(b"\n")
                if not is_rest:
                    is_whole = is_end or len(line) < LINE_BYTES_MAX
                    # Other encodings than UTF-8 do no harm, since only ASCII is used.
                    text = line.decode(errors="replace").rstrip("\r\n")
                    yield parse(text) if is_whole else None
                is_rest = not is_end
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror or error}") from error
