"""Sends a problem as the whole response, in the form that the client reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from starlette.types import Scope, Send

from faregate.asgi.headers import Headers
from faregate.asgi.pages import PAGE_FIELDS, page, prefers_html
from faregate.asgi.problems import ABOUT_BLANK, STATUSES, TYPES_PREFIX, Problem
from faregate.domain.errors import ConfigurationError

_ERROR_STATUSES = range(400, 600)
#: A character of a URI (RFC 3986): none of them ends a field or the target of a link.
_CHARACTER = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_URL = re.compile(rf"https?://[A-Za-z0-9\[]{_CHARACTER}*")
_PREFIX = re.compile(rf"[a-z][a-z0-9+.\-]*:{_CHARACTER}+")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class _Encoded(NamedTuple):
    """A problem as it is sent."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProblemOptions:
    """How refusals are told, beside what they say."""

    #: Other statuses for some codes, such as `{"out_of_credits": 429}`. A balance that a reset
    #: fills stays a 429, as clients wait for that status alone.
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Where a user gets more credits or a policy that gives more: an http or https URL. It becomes
    #: the member `upgrade_url` and a link of relation `payment` of problems that it would solve.
    upgrade_url: str | None = None
    #: What the types of our own begin with, where their pages are hosted: each code is appended,
    #: so that it ends with `/` or `#`.
    types_prefix: str = TYPES_PREFIX

    def __post_init__(self) -> None:
        for code, status in self.statuses.items():
            if code not in STATUSES:
                raise ConfigurationError(f"no problem has the code {code!r}")
            if not _is_error_status(status):
                raise ConfigurationError(f"the status of {code!r} is 400 to 599, not {status!r}")
        if self.upgrade_url is not None and not _URL.fullmatch(self.upgrade_url):
            raise ConfigurationError(f"upgrade_url is an absolute URL, not {self.upgrade_url!r}")
        if not _PREFIX.fullmatch(self.types_prefix):
            raise ConfigurationError(f"types_prefix is an absolute URI, not {self.types_prefix!r}")
        object.__setattr__(self, "statuses", MappingProxyType(dict(self.statuses)))

    def status_of(self, problem: Problem) -> int:
        """Return the status of a problem."""
        is_usual = problem.status == STATUSES[problem.code]
        return self.statuses.get(problem.code, problem.status) if is_usual else problem.status

    def members_of(self, problem: Problem) -> dict[str, object]:
        """Return the members of its body."""
        status = self.status_of(problem)
        members: dict[str, object] = {
            "type": problem.type or f"{self.types_prefix}{problem.code}",
            "title": problem.title,
            "status": status,
            "detail": problem.detail,
            "code": problem.code,
            **problem.extensions,
        }
        if problem.type == ABOUT_BLANK and status in _PHRASES:
            members["title"] = _PHRASES[status]
        if problem.retry_after_s is not None:
            members["retry_after"] = problem.retry_after_s
        if problem.offers_upgrade and self.upgrade_url is not None:
            members["upgrade_url"] = self.upgrade_url
        return members


def _is_error_status(status: object) -> bool:
    return isinstance(status, int) and status in _ERROR_STATUSES


_DEFAULTS = ProblemOptions()


async def answer(
    problem: Problem,
    scope: Scope,
    send: Send,
    *,
    fields: Headers,
    options: ProblemOptions = _DEFAULTS,
) -> None:
    """Send a problem: as JSON, or as a page to a browser.

    To a HEAD, the body is not sent, but its length is. A WebSocket is refused with the same
    response, which needs a server that knows the extension `websocket.http.response`.

    Args:
        problem: Why the request is refused.
        scope: The scope of the request.
        send: To whom it is sent.
        fields: Further fields of the response.
        options: How it is told.
    """
    encode = _encode if problem.extensions else _encode_once
    encoded = encode(problem, options, as_page=prefers_html(scope))
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    headers = [*encoded.headers, *fields]
    await send({"type": f"{kind}.response.start", "status": encoded.status, "headers": headers})
    shown = b"" if scope.get("method") == "HEAD" else encoded.body
    await send({"type": f"{kind}.response.body", "body": shown})


def _encode(problem: Problem, options: ProblemOptions, *, as_page: bool) -> _Encoded:
    members = options.members_of(problem)
    form = PAGE_FIELDS if as_page else [(b"content-type", b"application/problem+json")]
    body = page(members) if as_page else json.dumps(members).encode()
    # It is not stored, so no cache needs to know on which fields of the request it depends.
    common = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    headers = [*form, *common]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after_s))
    if "upgrade_url" in members:
        headers.append((b"link", f'<{members["upgrade_url"]}>; rel="payment"'.encode()))
    return _Encoded(options.status_of(problem), headers, body)


#: For problems that say the same each time: there are few, and an outage repeats them.
_encode_once = lru_cache(maxsize=256)(_encode)
