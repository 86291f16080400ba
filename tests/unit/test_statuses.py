"""Which statuses are refunded, as an app or a command line names them."""

from typing import Any

import pytest

from faregate.asgi.statuses import status_set
from faregate.domain.errors import ConfigurationError


def test_statuses_are_numbers_ranges_and_classes() -> None:
    """All three can be mixed, as texts from a command line, too."""
    assert status_set([404, range(500, 502), "429", "3XX"]) == {404, 429, 500, 501} | set(
        range(300, 400)
    )
    assert status_set([]) == frozenset()


@pytest.mark.parametrize("bad", [[99], [600], ["0xx"], ["xx"], ["5x"], [True], [None], [-1], "5xx"])
def test_an_invalid_status_is_refused(bad: Any) -> None:
    """A typo must not quietly mean that nothing is refunded."""
    with pytest.raises(ConfigurationError):
        status_set(bad)
