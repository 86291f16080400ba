"""Sends a problem as the whole response: JSON, or an HTML page for a browser.

The page loads nothing else.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from html import escape
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from starlette.types import Scope, Send

from faregate.asgi.headers import Headers
from faregate.asgi.problems import ABOUT_BLANK, STATUSES, TYPES_PREFIX, Problem
from faregate.domain.errors import ConfigurationError

_ERROR_STATUSES = range(400, 600)
#: The characters of a URI (RFC 3986). None of them ends a header field or a link target.
_CHARACTER = r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]"
_URL = re.compile(rf"https?://[A-Za-z0-9\[]{_CHARACTER}*")
_PREFIX = re.compile(rf"[a-z][a-z0-9+.\-]*:{_CHARACTER}+")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}

#: A longer Accept field is ignored: no browser sends it.
ACCEPT_CHARS_MAX = 1_000

_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}"
    "h1{font-size:1.4rem}small{opacity:.7}:root{color-scheme:light dark}"
)
_STYLE_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

#: The header fields of a page, which runs no script, loads nothing, and is in no frame.
_PAGE_FIELDS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
]


class _Encoded(NamedTuple):
    """A problem in the bytes of a response."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProblemOptions:
    """How refusals are sent: statuses, types, a link to upgrade."""

    #: Other statuses for some codes, such as `{"out_of_credits": 429}`. A balance that a reset
    #: fills stays a 429, since clients wait only for that status.
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: An http or https URL where a user gets more credits or a better policy. Problems that it
    #: would solve have it as the member `upgrade_url` and as a link of relation `payment`.
    upgrade_url: str | None = None
    #: The prefix of problem types, if you host their pages: each code is appended, so it ends with
    #: `/` or `#`.
    types_prefix: str = TYPES_PREFIX

    def __post_init__(self) -> None:
        for code, status in self.statuses.items():
            if code not in STATUSES:
                raise ConfigurationError(f"no problem has the code {code!r}")
            if not _is_error_status(status):
                raise ConfigurationError(f"the status of {code!r} is 400 to 599, not {status!r}")
        if self.upgrade_url is not None and not _URL.fullmatch(self.upgrade_url):
            raise ConfigurationError(
                f"upgrade_url must be an absolute URL, not {self.upgrade_url!r}"
            )
        if not _PREFIX.fullmatch(self.types_prefix):
            raise ConfigurationError(
                f"types_prefix must be an absolute URI, not {self.types_prefix!r}"
            )
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

    A HEAD request gets the length of the body, but no body. A WebSocket is refused with the same
    response, if the server has the extension `websocket.http.response`.

    Args:
        problem: The reason of the refusal.
        scope: The scope of the request.
        send: The function that sends messages to the server.
        fields: Further fields of the response.
        options: How refusals are sent.
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
    form = _PAGE_FIELDS if as_page else [(b"content-type", b"application/problem+json")]
    body = _page(members) if as_page else json.dumps(members).encode()
    # No Vary field, since no cache stores the response.
    common = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    headers = [*form, *common]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after_s))
    if "upgrade_url" in members:
        headers.append((b"link", f'<{members["upgrade_url"]}>; rel="payment"'.encode()))
    return _Encoded(options.status_of(problem), headers, body)


#: Caches constant problems: there are few, and an outage repeats them.
_encode_once = lru_cache(maxsize=256)(_encode)


def _page(members: Mapping[str, object]) -> bytes:
    """Return a problem as a page with the content of its JSON."""
    texts = {name: escape(str(value)) for name, value in members.items()}
    lines = [f"<h1>{texts['title']}</h1>", f"<p>{texts['detail']}</p>"]
    if "resets_at" in texts:
        moment = texts["resets_at"]
        lines.append(f'<p>Resets at <time datetime="{moment}">{moment}</time>.</p>')
    if "retry_after" in texts:
        lines.append(f"<p>Try again in {texts['retry_after']} s.</p>")
    if "upgrade_url" in texts:
        lines.append(f'<p><a href="{texts["upgrade_url"]}" rel="payment">Get more</a></p>')
    lines.append(f"<p><small>{texts['status']} {texts['code']}</small></p>")
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{texts['title']}</title><style>{_STYLE}</style></head><body>"
    )
    return "\n".join([head, *lines, "</body></html>\n"]).encode()


def prefers_html(scope: Scope) -> bool:
    """Return whether a client prefers a page to JSON, by its Accept field (RFC 9110).

    A browser names text/html. A client that accepts anything, or both equally, is a program.
    """
    values = [value for name, value in scope["headers"] if name == b"accept"]
    accept = b",".join(values).decode("latin-1").lower()
    if "text/" not in accept or len(accept) > ACCEPT_CHARS_MAX:
        return False
    qualities = _qualities(accept)
    json = max(_quality_of(qualities, "application", kind) for kind in ("problem+json", "json"))
    return _quality_of(qualities, "text", "html") > json


def _qualities(accept: str) -> dict[str, float]:
    """Read the quality of each media range; ill-formed ranges are left out."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (text.strip() for text in part.split(";"))
        weights = [text[2:] for text in parameters if text.startswith("q=")] or ["1"]
        if _QUALITY.fullmatch(weights[0]):
            qualities[media_range] = max(float(weights[0]), qualities.get(media_range, 0.0))
    return qualities


def _quality_of(qualities: Mapping[str, float], kind: str, subtype: str) -> float:
    """Return the quality of a media type: that of the most specific range."""
    for media_range in (f"{kind}/{subtype}", f"{kind}/*", "*/*"):
        if media_range in qualities:
            return qualities[media_range]
    return 0.0
