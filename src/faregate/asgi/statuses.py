"""HTTP statuses in settings."""

from collections.abc import Iterable

from faregate.domain.errors import ConfigurationError

_STATUSES = range(100, 600)
_CLASS_SIZE = 100


def status_set(statuses: Iterable[int | range | str]) -> frozenset[int]:
    """Return the statuses of numbers, ranges, and texts such as `404` and `5xx`.

    Raises:
        ConfigurationError: One of them is ill-formed, or no HTTP status.
    """
    if isinstance(statuses, str):
        raise ConfigurationError(
            f"statuses must be a list, such as [{statuses!r}]; this is a single text"
        )
    return frozenset(status for item in statuses for status in _statuses_of(item))


def _statuses_of(item: object) -> Iterable[int]:
    if isinstance(item, range):
        found: Iterable[int] = item
    elif isinstance(item, int) and not isinstance(item, bool):
        found = (item,)
    elif isinstance(item, str) and item.isdecimal():
        found = (int(item),)
    elif isinstance(item, str) and item[:1].isdecimal() and item[1:].lower() == "xx":
        first = int(item[0]) * _CLASS_SIZE
        found = range(first, first + _CLASS_SIZE)
    else:
        found = ()
    if not found or not all(status in _STATUSES for status in found):
        raise ConfigurationError(
            f"a status must be a number such as 503 or a class such as 5xx, not {item!r}"
        )
    return found
