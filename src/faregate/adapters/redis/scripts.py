"""Finds, assembles and names the Lua scripts.

A script is sent as `#!lua` with the flags that its header names in a line `flags:`, the shared
fragments that it names in a line `uses:`, and its body. With `#!lua` the server checks declared
keys and memory before the script starts, not in the middle of it (Redis 7 and later, Valkey).
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

    @property
    def sha(self) -> str:
        """The digest by which the server knows the script; the protocol asks for SHA-1."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()


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


@cache
def load(name: str) -> Script:
    """Assemble a script."""
    body = (folder() / f"{name}.lua").read_text(encoding="utf-8")
    uses = _USES.search(body)
    fragments = re.findall(r"[a-z_]+", uses["fragments"]) if uses else []
    parts = [(folder() / "lib" / f"{part}.lua").read_text(encoding="utf-8") for part in fragments]
    flags = _FLAGS.search(body)
    shebang = f"#!lua flags={flags['flags']}\n" if flags else "#!lua\n"
    return Script(name, shebang + "\n".join([*parts, body]))


def dump(target: Path) -> None:
    """Write every assembled script into a folder, without `#!lua`, for a linter to read."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names():
        _, _, source = load(name).source.partition("\n")
        (target / f"{name}.lua").write_text(source, encoding="utf-8")
