"""Refusals for people: one small page that loads nothing, and who gets it instead of JSON."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape

from starlette.types import Scope

#: A longer Accept field is not read: nobody who reads pages sends it.
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

#: The fields of a page. It runs nothing, loads nothing, and lies in no frame.
PAGE_FIELDS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
]


def page(members: Mapping[str, object]) -> bytes:
    """Return a problem as a page that says the same as its JSON."""
    told = {name: escape(str(value)) for name, value in members.items()}
    lines = [f"<h1>{told['title']}</h1>", f"<p>{told['detail']}</p>"]
    if "resets_at" in told:
        moment = told["resets_at"]
        lines.append(f'<p>Comes back: <time datetime="{moment}">{moment}</time>.</p>')
    if "retry_after" in told:
        lines.append(f"<p>Try again in {told['retry_after']} s.</p>")
    if "upgrade_url" in told:
        lines.append(f'<p><a href="{told["upgrade_url"]}" rel="payment">Get more</a></p>')
    lines.append(f"<p><small>{told['status']} {told['code']}</small></p>")
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{told['title']}</title><style>{_STYLE}</style></head><body>"
    )
    return "\n".join([head, *lines, "</body></html>\n"]).encode()


def prefers_html(scope: Scope) -> bool:
    """Say whether a client would rather have a page than JSON, by its Accept field (RFC 9110).

    A browser names text/html; who takes anything, or both alike, is a program.
    """
    values = [value for name, value in scope["headers"] if name == b"accept"]
    accept = b",".join(values).decode("latin-1").lower()
    if "text/" not in accept or len(accept) > ACCEPT_CHARS_MAX:
        return False
    qualities = _qualities(accept)
    json = max(_quality_of(qualities, "application", kind) for kind in ("problem+json", "json"))
    return _quality_of(qualities, "text", "html") > json


def _qualities(accept: str) -> dict[str, float]:
    """Read how much each media range is wanted; what is ill-formed is left out."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (text.strip() for text in part.split(";"))
        weights = [text[2:] for text in parameters if text.startswith("q=")] or ["1"]
        if _QUALITY.fullmatch(weights[0]):
            qualities[media_range] = max(float(weights[0]), qualities.get(media_range, 0.0))
    return qualities


def _quality_of(qualities: Mapping[str, float], kind: str, subtype: str) -> float:
    """Return how much a media type is wanted: the range that names it best says so."""
    for media_range in (f"{kind}/{subtype}", f"{kind}/*", "*/*"):
        if media_range in qualities:
            return qualities[media_range]
    return 0.0
