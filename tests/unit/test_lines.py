"""Files of any size and any content, read line by line."""

from pathlib import Path

import pytest

from faregate.cli.lines import LINE_BYTES_MAX, parsed_lines
from faregate.domain.errors import InvalidArgumentError


def whole_number(line: str) -> int | None:
    return int(line) if line.isdecimal() else None


def test_lines_come_in_order_with_none_for_unusable_ones(tmp_path: Path) -> None:
    """A line that is over-long is one line, however many times the bound it has."""
    path = tmp_path / "numbers"
    too_long = b"1" * (2 * LINE_BYTES_MAX + 5)
    path.write_bytes(b"\n".join([b"1", too_long, b"\x00\xff", b"", b"2"]))
    assert list(parsed_lines(path, whole_number)) == [1, None, None, None, 2]


def test_bytes_that_are_not_utf_8_spoil_no_line(tmp_path: Path) -> None:
    """They are replaced, since all that is looked for is ASCII."""
    path = tmp_path / "latin"
    path.write_bytes("\xe9t\xe9\n".encode("latin-1"))
    assert list(parsed_lines(path, str)) == ["\ufffdt\ufffd"]


def test_a_line_that_just_fits_is_read(tmp_path: Path) -> None:
    """The bound counts the line's end."""
    path = tmp_path / "long"
    fits = "x" * (LINE_BYTES_MAX - 1)
    path.write_text(f"{fits}\n{fits}y\nz", encoding="utf-8")
    assert list(parsed_lines(path, str)) == [fits, None, "z"]


def test_carriage_returns_are_part_of_a_line_end(tmp_path: Path) -> None:
    """As a file that went through Windows has them."""
    path = tmp_path / "windows"
    path.write_bytes(b"1\r\n2\r\n")
    assert list(parsed_lines(path, whole_number)) == [1, 2]


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    """A missing file and a folder."""
    with pytest.raises(InvalidArgumentError, match=r"does not exist|is not a file"):
        next(parsed_lines(tmp_path / name, str))
