"""Reads access logs in the common and the combined log format of Apache and nginx."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faregate.domain.errors import InvalidArgumentError

#: Longer lines are no log lines; this much is read of one at a time.
LINE_BYTES_MAX = 65_536

_STATUS_MIN = 100
_STATUS_MAX = 599
#: Address, identity and user (which may hold blanks), time, request, status, bytes; the combined
#: format adds referrer and user agent, of which nothing is needed. In quotes, `\` escapes.
_LINE = re.compile(
    r"(?P<address>[0-9A-Za-z_.:%-]{1,255}) [^\[\"]*\[[^\]]*\] "
    r'"(?P<method>[A-Za-z]{1,32}) (?P<target>(?:[^"\\]|\\.)+?)(?: HTTP/\d(?:\.\d)?)?" '
    r"(?P<status>\d{3})(?= |$)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as a server has logged it."""

    #: The client: an IP address or a host name.
    address: str
    method: str
    #: Path and query, as they were sent.
    target: str
    #: The status of the answer, 100 to 599.
    status: int


def parse_line(line: str) -> LoggedRequest | None:
    """Read one line; None if address, request or status cannot be read from it."""
    found = _LINE.match(line)
    if found is None or found["address"] == "-":
        return None
    status = int(found["status"])
    if not _STATUS_MIN <= status <= _STATUS_MAX:
        return None
    return LoggedRequest(
        address=found["address"], method=found["method"], target=found["target"], status=status
    )


class AccessLog:
    """The usable lines of a file, in their order. Iterate over it once."""

    def __init__(self, path: Path) -> None:
        """Make sure that the file can be read, and remember how long it is.

        Raises:
            InvalidArgumentError: It is missing, no file, or may not be read.
        """
        self._path = path
        #: How many lines had no readable address, request or status, so far.
        self.unusable_count = 0
        try:
            if not path.is_file():
                raise InvalidArgumentError(
                    f"{path} is not a file" if path.exists() else f"{path} does not exist"
                )
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            raise _unreadable(path, error) from error

    def __iter__(self) -> Iterator[LoggedRequest]:
        """Iterate, one line at a time, whatever the size of the file.

        Raises:
            InvalidArgumentError: The file cannot be read any further.
        """
        try:
            with self._path.open("rb") as file:
                is_rest = False
                while line := file.readline(LINE_BYTES_MAX):
                    is_end = line.endswith(b"\n")
                    if not is_rest:
                        yield from self._usable(line, is_whole=is_end or len(line) < LINE_BYTES_MAX)
                    is_rest = not is_end
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _usable(self, line: bytes, *, is_whole: bool) -> Iterator[LoggedRequest]:
        # What is not UTF-8 is no reason to refuse a line: addresses and statuses are ASCII.
        request = parse_line(line.decode(errors="replace").rstrip("\r\n")) if is_whole else None
        if request is None:
            self.unusable_count += 1
        else:
            yield request


def _unreadable(path: Path, error: OSError) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path} cannot be read: {error.strerror or error}")
