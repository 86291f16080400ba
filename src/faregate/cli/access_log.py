"""Reads access logs in the common and the combined log format of Apache and nginx."""

import re
from dataclasses import dataclass

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
