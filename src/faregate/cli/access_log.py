"""Reads access logs in the common and the combined log format of Apache and nginx.

A line may have a prefix: of compose, kubectl or syslog, a time, or the virtual host. A line is read
only if its client is certain, since any other word would be charged as a user.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

_STATUS_MIN = 100
_STATUS_MAX = 599
_ISO_TIME = r"\d{4}-\d\d-\d\dT\S+"
_TAG = r"[^\s:\[\]]+(?:\[\d+\])?:"
_COLOUR = r"\x1b\[[0-9;]*m"
#: Prefixes that other programs put before a line, in any number.
_PREFIXES = re.compile(
    "(?:"
    + "|".join(
        (
            _COLOUR,
            "\ufeff",
            # kubectl logs --prefix, and docker compose logs.
            r"\[[A-Za-z][^\]\s]*\] ",
            rf"[A-Za-z0-9_.-]+ *(?:{_COLOUR})*\|(?:{_COLOUR}| )*",
            # syslog: the priority, then RFC 5424, or RFC 3164, also with an ISO time.
            r"<\d{1,3}>",
            rf"1 {_ISO_TIME} \S+ \S+ \S+ \S+ (?:-|(?:\[[^\]]*\])+) ",
            rf"(?:[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d|{_ISO_TIME}) (?:\S+ {_TAG} )?",
        )
    )
    + ")*"
)
#: The client, identity and user (which may contain blanks), time, request, status, bytes. The
#: combined format adds referrer and user agent, which are not needed. In quotes, `\` escapes.
_LINE = re.compile(
    r"(?P<who>\[?[^\[\"]{1,1000}) \[[^\]]*\] "
    r'"(?P<method>[A-Za-z]{1,32}) (?P<target>(?:[^"\\]|\\.)+?)(?: HTTP/\d(?:\.\d)?)?" '
    r"(?P<status>\d{3})(?= |$)"
)
#: A virtual host with its port, before a blank or a colon.
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9_.-]+:\d{1,5}:(.+)")
_ADDRESS_AND_PORT = re.compile(r"(?:\[(?P<v6>.+)\]|(?P<v4>[0-9.]+)):\d{1,5}")
_HOST = re.compile(r"(?=.{1,255}$)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*")
_VIRTUAL_HOST = re.compile(r"[A-Za-z0-9_.:\[\]*-]+")
_IDENTITY = re.compile(r"[A-Za-z0-9_-]+")
#: The words for an unknown client.
_NOBODY = {"unix", "unknown"}
#: The least number of words before the time: client, identity and user.
_WORDS_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request in an access log."""

    #: The client: an IP address or a host name.
    address: str
    method: str
    #: Path and query as they were sent.
    target: str
    #: The status of the response, 100 to 599.
    status: int


def parse_line(line: str) -> LoggedRequest | None:
    """Read one line; None if client, request or status is uncertain."""
    found = _LINE.match(_PREFIXES.sub("", line, count=1))
    if found is None:
        return None
    address, status = _client_of(found["who"].split(" ")), int(found["status"])
    if address is None or not _STATUS_MIN <= status <= _STATUS_MAX:
        return None
    return LoggedRequest(
        address=address, method=found["method"], target=found["target"], status=status
    )


def _client_of(words: list[str]) -> str | None:
    """Return the client of a line, from the words before its time."""
    if len(words) > _WORDS_MIN and _address(words[1]) and _VIRTUAL_HOST.fullmatch(words[0]):
        del words[0]
    if len(words) < _WORDS_MIN or any(_address(word) is not None for word in words[1:]):
        # With two addresses, or a user that looks like one, the client is uncertain.
        return None
    first, identity, *users = words
    address = _address(first)
    if address is not None:
        return address if _IDENTITY.fullmatch(identity) else None
    is_host = _HOST.fullmatch(first) is not None and first not in _NOBODY
    # Many words look like the name of a host, so the rest must have the usual form.
    return first if is_host and identity == "-" and len(users) == 1 else None


def _address(word: str) -> str | None:
    """Return the IP address in a word, which may have a port, or a host and port before it."""
    behind_host, with_port = _HOST_AND_PORT.fullmatch(word), _ADDRESS_AND_PORT.fullmatch(word)
    if with_port is not None:
        found = with_port["v4"] or with_port["v6"]
    else:
        found = word if behind_host is None or _is_address(word) else str(behind_host[1])
    return found if _is_address(found) else None


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True
