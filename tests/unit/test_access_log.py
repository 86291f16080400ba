"""Lines of access logs as servers write them, and everything else that a line may hold."""

import pytest

from faregate.cli.access_log import LoggedRequest, parse_line

TIME = "[17/May/2015:10:05:03 +0000]"
COMMON = f'192.0.2.7 - - {TIME} "GET /a?b=c HTTP/1.1" 404 326'

USABLE = {
    "common": (COMMON, ("192.0.2.7", "GET", "/a?b=c", 404)),
    "combined": (
        f'192.0.2.7 - ann {TIME} "POST /x HTTP/1.0" 200 - "http://site.test/" "Agent (x; y) 1"',
        ("192.0.2.7", "POST", "/x", 200),
    ),
    "IPv6": (f'2001:db8::1 - - {TIME} "HEAD / HTTP/2.0" 304 0', ("2001:db8::1", "HEAD", "/", 304)),
    "host name": (
        f'a.site.test - - {TIME} "GET / HTTP/1.1" 200 1',
        ("a.site.test", "GET", "/", 200),
    ),
    "user with a blank": (
        f'192.0.2.7 - Ann Bee {TIME} "GET / HTTP/1.1" 200 1',
        ("192.0.2.7", "GET", "/", 200),
    ),
    "HTTP/0.9": (f'192.0.2.7 - - {TIME} "GET /old" 200 1', ("192.0.2.7", "GET", "/old", 200)),
    "blank in the target": (
        f'192.0.2.7 - - {TIME} "GET /a b HTTP/1.1" 400 1',
        ("192.0.2.7", "GET", "/a b", 400),
    ),
    "quote in the target": (
        f'192.0.2.7 - - {TIME} "GET /\\"q\\" HTTP/1.1" 200 1',
        ("192.0.2.7", "GET", '/\\"q\\"', 200),
    ),
    "no size": (f'192.0.2.7 - - {TIME} "GET / HTTP/1.1" 204', ("192.0.2.7", "GET", "/", 204)),
}

UNUSABLE = {
    "blank": "",
    "prose": "the server was restarted at noon",
    "no address": f'- - - {TIME} "GET / HTTP/1.1" 200 1',
    "no request": f'192.0.2.7 - - {TIME} "-" 408 0',
    "TLS bytes": f'192.0.2.7 - - {TIME} "\\x16\\x03\\x01" 400 0',
    "no status": f'192.0.2.7 - - {TIME} "GET / HTTP/1.1" - 0',
    "status of four digits": f'192.0.2.7 - - {TIME} "GET / HTTP/1.1" 2000 0',
    "status that is none": f'192.0.2.7 - - {TIME} "GET / HTTP/1.1" 600 0',
    "cut off": COMMON[:40],
}


@pytest.mark.parametrize("name", USABLE)
def test_address_request_and_status_are_read(name: str) -> None:
    """Whatever stands in the other fields."""
    line, (address, method, target, status) = USABLE[name]
    expected = LoggedRequest(address=address, method=method, target=target, status=status)
    assert parse_line(line) == expected


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_line_without_one_of_them_is_not_usable(name: str) -> None:
    """Nothing is guessed."""
    assert parse_line(UNUSABLE[name]) is None
