"""The one error of the benchmarks."""


class BenchError(Exception):
    """A benchmark cannot be run; the text says what to do."""
