"""Progress of replay and demo, on standard error, so that standard output has only results."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faregate.cli.proof import DRAIN_S_MAX, wait_until_drained
from faregate.cli.stack import Stack


def printer_on(console: Console) -> Callable[[str], None]:
    """Return a function that prints a line without markup or wrapping, above a progress bar."""

    def print_line(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return print_line


def progress_on(console: Console, *, is_hidden: bool = False) -> Progress:
    """Make the progress bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=is_hidden,
    )


def counting(progress: Progress, what: str) -> Callable[[int, int | None], None]:
    """Return a function that shows how many are done, of about how many, and how fast."""
    task = progress.add_task(what, total=None)

    def update(done: int, estimate: int | None) -> None:
        rate = progress.tasks[task].speed or 0
        # The estimate may be too low; the bar must not go beyond its end.
        total = None if estimate is None else max(done, estimate)
        progress.update(task, completed=done, total=total, description=f"{what}, {rate:.0f}/s")

    return update


def show_draining(stack: Stack, progress: Progress) -> list[str]:
    """Wait until the worker has nothing left to do; return the problems."""
    task = progress.add_task("draining", total=None)
    left_max = 0

    def update(left: int) -> None:
        nonlocal left_max
        left_max = max(left_max, left)
        progress.update(task, total=left_max, completed=left_max - left)

    if wait_until_drained(stack.settings, stack.check, update):
        return []
    late = f"the worker has left holds or records after {DRAIN_S_MAX:.0f} s; the end of its log:"
    return [f"{late}\n{stack.worker_log()}"]
