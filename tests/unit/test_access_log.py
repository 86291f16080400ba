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

REST = f'- - {TIME} "GET / HTTP/1.1" 200 5 "-" "curl"'
IN_SYSLOG = "May 17 10:05:03 web1 nginx"

#: What stands before the rest of a line, and the client that it names.
PREFIXED = {
    "virtual host and port": ("site.test:443 192.0.2.7", "192.0.2.7"),
    "virtual host": ("site.test 192.0.2.7", "192.0.2.7"),
    "virtual host that is an address": ("198.51.100.1 192.0.2.7", "192.0.2.7"),
    "virtual host before IPv6": ("site.test:443 2001:db8::1", "2001:db8::1"),
    "host, port and address in one": ("a.site.test:443:192.0.2.7", "192.0.2.7"),
    "host, port and IPv6 in one": ("a.site.test:443:2001:db8::1", "2001:db8::1"),
    "IPv6 that looks like host and port": ("2001:443:db8:1:2:3:4:5", "2001:443:db8:1:2:3:4:5"),
    "port of the client": ("192.0.2.7:51234", "192.0.2.7"),
    "port of an IPv6 client": ("[2001:db8::1]:51234", "2001:db8::1"),
    "compose": ("nginx-1  | 192.0.2.7", "192.0.2.7"),
    "compose with colours": ("\x1b[36mnginx-1  |\x1b[0m 192.0.2.7", "192.0.2.7"),
    "compose with times": ("web_1 | 2015-05-17T10:05:03.1Z 192.0.2.7", "192.0.2.7"),
    "compose and virtual host": ("nginx-1  | site.test:443 192.0.2.7", "192.0.2.7"),
    "compose and a host name": ("nginx-1  | a.site.test", "a.site.test"),
    "kubectl": ("[pod/web-7d4/nginx] 192.0.2.7", "192.0.2.7"),
    "syslog": (f"{IN_SYSLOG}: 192.0.2.7", "192.0.2.7"),
    "syslog with a pid": (f"{IN_SYSLOG}[12]: 192.0.2.7", "192.0.2.7"),
    "syslog with a day of one digit": ("May  7 10:05:03 web1 nginx: 192.0.2.7", "192.0.2.7"),
    "syslog with its priority": (f"<190>{IN_SYSLOG}: 192.0.2.7", "192.0.2.7"),
    "tag": ("nginx: 192.0.2.7", "192.0.2.7"),
    "syslog and a host name": (f"{IN_SYSLOG}: a.site.test", "a.site.test"),
    "rsyslog": ("2015-05-17T10:05:03.12+00:00 web1 nginx: 192.0.2.7", "192.0.2.7"),
    "RFC 5424": ("<190>1 2015-05-17T10:05:03Z web1 nginx 12 - - 192.0.2.7", "192.0.2.7"),
    "RFC 5424 with data": ('<14>1 2015-05-17T10:05:03Z w n 1 ID7 [a b="c"] 192.0.2.7', "192.0.2.7"),
}

#: Before the rest of a line, too: in each, some word stands where a client could.
NO_CLIENT = {
    "virtual host alone": "site.test:443",
    "unix socket": "unix:",
    "unknown": "unknown",
    "a number": "12",
    "no address": "192.0.2.999",
    "time": "10:05:03",
    "day and time": "2015-05-17 10:05:03 192.0.2.7",
    "host and tag": "web1 nginx: 192.0.2.7",
    "two words": "one two 192.0.2.7",
    "server and client": "site.test - 192.0.2.7",
    "two addresses": "192.0.2.7 - 198.51.100.1",
    "user who claims an address": "192.0.2.7 - 198.51.100.1 x",
    "forwarded list": "192.0.2.7, 198.51.100.1",
    "virtual host and a host name": "site.test a.site.test",
    "JSON": '{"log":"192.0.2.7',
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


@pytest.mark.parametrize("name", PREFIXED)
def test_behind_a_prefix_the_client_is_found(name: str) -> None:
    """Nothing of the prefix is taken for the client."""
    prefix, address = PREFIXED[name]
    read = parse_line(f"{prefix} {REST}")
    assert read is not None
    assert (read.address, read.target, read.status) == (address, "/", 200)


@pytest.mark.parametrize("name", NO_CLIENT)
def test_a_line_with_an_uncertain_client_charges_no_user(name: str) -> None:
    """A line more that is not usable is counted; a user that nobody is would be charged."""
    assert parse_line(f"{NO_CLIENT[name]} {REST}") is None
