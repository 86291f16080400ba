"""Access logs as servers write them, and everything else that a file may hold."""

from pathlib import Path

import pytest

from faregate.cli.access_log import LINE_BYTES_MAX, AccessLog, LoggedRequest, parse_line
from faregate.domain.errors import InvalidArgumentError

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


def test_usable_lines_come_in_order_and_the_others_are_counted(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 and an over-long line spoil their own line at most."""
    path = tmp_path / "access.log"
    too_long = b"x" * (2 * LINE_BYTES_MAX + 5)
    strange = COMMON.replace("/a", "/\xe9").encode("latin-1")
    path.write_bytes(b"\n".join([COMMON.encode(), too_long, b"\x00\xff", strange, COMMON.encode()]))
    log = AccessLog(path)
    assert [request.target for request in log] == ["/a?b=c", "/\ufffd?b=c", "/a?b=c"]
    assert log.unusable_count == 2


def test_a_line_that_just_fits_is_read(tmp_path: Path) -> None:
    """The bound counts the line's end."""
    path = tmp_path / "access.log"
    padded = COMMON + " " * (LINE_BYTES_MAX - len(COMMON) - 1)
    path.write_text(f"{padded}\n{padded} \n{COMMON}", encoding="utf-8")
    log = AccessLog(path)
    assert (len(list(log)), log.unusable_count) == (2, 1)


def test_lines_with_carriage_returns_are_read(tmp_path: Path) -> None:
    """As a log that went through Windows has them."""
    path = tmp_path / "access.log"
    path.write_bytes(f"{COMMON}\r\n".encode() * 2)
    assert len(list(AccessLog(path))) == 2


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """A missing file and a folder, before anything is started for them."""
    with pytest.raises(InvalidArgumentError, match=r"does not exist|is not a file"):
        AccessLog(tmp_path / name)
