"""docs/scale.md is what the model says of the figures that were measured, and what keys.py does."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import scale
from dealt_slots import shards_on_each

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/scale.md").read_text("utf-8")


def test_the_shards_of_each_primary_are_those_of_the_page() -> None:
    """For all sizes of clusters in the table; as even as they can be."""
    rows = re.findall(r"^\| (\d+) \|(( \d+( or \d+)? \|){4})$", PAGE, re.M)
    assert [int(count) for count, *_ in rows] == [16, 32, 48, 64, 96, 100]
    for count, cells, *_ in rows:
        for nodes, cell in zip((3, 6, 8, 16), cells.split("|"), strict=False):
            told = {int(number) for number in cell.split(" or ")}
            assert told == set(shards_on_each(int(count), nodes))


def test_the_tables_are_those_of_the_model() -> None:
    """After a new measurement, `make bench-primaries` writes them."""
    assert scale.written(PAGE) == PAGE


def test_what_make_scale_prints_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The block with its options, and all of its lines."""
    ((words, shown),) = re.findall(
        r'^```console\n\$ make scale SCALE="([^"]*)"\n(.*?)^```', PAGE, re.M | re.S
    )
    assert scale.main(shlex.split(words)) == 0
    assert capsys.readouterr().out == shown
