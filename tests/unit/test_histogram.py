"""Histograms, and the memory in which a worker's processes count together."""

import os
import subprocess
import sys

import pytest

from faregate.domain.histogram import Histogram
from faregate_worker.counts import TOTALS, Counts


def test_each_value_is_in_the_first_bucket_that_holds_it() -> None:
    """A bound belongs to its bucket; what is above all of them counts in the last one."""
    histogram = Histogram.empty((0.5, 1, 2))
    for value, times in ((0.1, 1), (1, 2), (1.5, 1), (7, 3)):
        histogram.observe(value, times)
    assert histogram.buckets == [("0.5", 1), ("1.0", 3), ("2.0", 4), ("+Inf", 7)]
    assert histogram.total == pytest.approx(0.1 + 2 + 1.5 + 21)


def test_processes_count_together() -> None:
    """Forks of a process, and a program that is handed the file."""
    counts = Counts()
    fd = counts.share()
    if (pid := os.fork()) == 0:
        counts.add(inserted=5)
        counts.batch_records.observe(5)
        os._exit(0)
    os.waitpid(pid, 0)
    code = (
        "from faregate_worker.counts import COUNTS\n"
        f"COUNTS.open({fd})\n"
        "COUNTS.add(inserted=2, blocked=1)\n"
        "COUNTS.batch_seconds.observe(0.25)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], pass_fds=[fd], check=True, env=environment)
    os.close(fd)
    expected = dict.fromkeys(TOTALS, 0.0) | {"inserted": 7.0, "blocked": 1.0}
    assert counts.totals == expected
    assert (counts.batch_records.total, counts.batch_seconds.total) == (5, 0.25)
    assert counts.batch_records.buckets[-1] == counts.batch_seconds.buckets[-1] == ("+Inf", 1)
