"""Finds, assembles and names the Lua scripts.

A script is sent as `#!lua` with the flags that its header names in a line `flags:`, then every
fragment that it uses, directly or through another one, then its body. A script and a fragment name
the fragments that they use in a line `uses:`. With `#!lua` the server checks declared keys and
memory before the script starts, not in the middle of it (Redis 7 and later, Valkey).
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

from faregate.domain.errors import ConfigurationError

_FLAGS = re.compile(r"^-- flags: (?P<flags>[a-z-]+)$", re.MULTILINE)
_USES = re.compile(r"^-- uses: (?P<fragments>[a-z_]+(?:,(?:\n--)? +[a-z_]+)*)$", re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent."""

    name: str
    source: str
    #: The digest by which the server knows the script; the protocol requires SHA-1.
    sha: str


def folder() -> Path:
    """Return the folder of the scripts: inside the installed package, or in a checkout.

    Raises:
        ConfigurationError: There is none, so the installation is broken.
    """
    for candidate in (_PACKAGE / "lua", _PACKAGE.parents[1] / "lua"):
        if candidate.is_dir():
            return candidate
    raise ConfigurationError(f"no folder `lua` beside {_PACKAGE}: install faregate again")


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(path.stem for path in folder().glob("*.lua"))


def fragments_of(body: str) -> list[str]:
    """Return the names of the fragments that a script needs, each after those that it uses."""
    ordered: list[str] = []

    def visit(text: str) -> None:
        uses = _USES.search(text)
        for name in re.findall(r"[a-z_]+", uses["fragments"]) if uses else []:
            if name not in ordered:
                visit(_fragment(name))
                ordered.append(name)

    visit(body)
    return ordered


def make(name: str, source: str) -> Script:
    """Make a script from its whole source."""
    digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, digest)


@cache
def load(name: str) -> Script:
    """Assemble a script."""
    body = (folder() / f"{name}.lua").read_text(encoding="utf-8")
    flags = _FLAGS.search(body)
    shebang = f"#!lua flags={flags['flags']}\n" if flags else "#!lua\n"
    parts = [*map(_fragment, fragments_of(body)), body]
    return make(name, shebang + "\n".join(parts))


def dump(target: Path) -> None:
    """Write every assembled script into a folder, without `#!lua`, for a linter to read."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names():
        _, _, source = load(name).source.partition("\n")
        (target / f"{name}.lua").write_text(source, encoding="utf-8")


def _fragment(name: str) -> str:
    return (folder() / "lib" / f"{name}.lua").read_text(encoding="utf-8")
