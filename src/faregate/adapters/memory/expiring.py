"""A dict whose entries expire."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Expiring(Generic[Key, Value]):
    """Remembers values, each for good or until a time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._values: dict[Key, Value] = {}
        self._ends_ms: dict[Key, int] = {}

    def get(self, key: Key) -> Value | None:
        """Return a value, or None."""
        if key in self._ends_ms and self._ends_ms[key] < self._now_ms():
            del self._values[key], self._ends_ms[key]
        return self._values.get(key)

    def put(self, key: Key, value: Value, for_ms: int | None = None) -> None:
        """Remember a value for a time; without one, its expiry stays as it was."""
        self.get(key)
        self._values[key] = value
        if for_ms is not None:
            self.keep(key, for_ms)

    def keep(self, key: Key, for_ms: int) -> None:
        """Let a value expire in a time from now."""
        if self.get(key) is not None:
            self._ends_ms[key] = self._now_ms() + for_ms

    def values(self) -> Iterator[Value]:
        """Iterate over all values."""
        for key in list(self._values):
            value = self.get(key)
            if value is not None:
                yield value
