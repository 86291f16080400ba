"""Finds, assembles and names the Lua scripts.

A script is sent as `#!lua` with the flags that its header names in a line `flags:`, then the
fragments that it uses, directly or through others, then its body. With `#!lua` the server checks
declared keys and memory before the script starts, not in the middle of it (Redis 7 and later,
Valkey).

A fragment that is `used rarely` is put into a function of its name, which defines it at its first
call and returns what it `exports`. To define a function takes 0.15 µs in each call of a script, so
only a spend that needs the rate limits, say, pays for their functions.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

from faregate.domain.errors import ConfigurationError

_FLAGS = re.compile(r"^-- flags: (?P<flags>[a-z-]+)$", re.MULTILINE)
_NAMES = r"(?P<names>[a-z_]+(?:,(?:\n--)? +[a-z_]+)*)$"
_USES = re.compile(r"^-- uses: " + _NAMES, re.MULTILINE)
_USES_RARELY = re.compile(r"^-- uses rarely: " + _NAMES, re.MULTILINE)
_EXPORTS = re.compile(r"^-- exports: " + _NAMES, re.MULTILINE)
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
    return make(name, shebang + "\n".join([*_parts(body, set()), body]))


def dump(target: Path) -> None:
    """Write every assembled script into a folder, without `#!lua`, for a linter to read."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names():
        _, _, source = load(name).source.partition("\n")
        (target / f"{name}.lua").write_text(source, encoding="utf-8")


def _parts(text: str, known: set[str]) -> list[str]:
    """Return the fragments that a text uses and are not known yet, each after those it uses."""
    parts = []
    for name in _names(_USES, text):
        if name not in known:
            known.add(name)
            source = _fragment(name)
            parts += [*_parts(source, known), source]
    for name in _names(_USES_RARELY, text):
        if name not in known:
            known.add(name)
            parts.append(_defined_at_first_call(name, known))
    return parts


def _defined_at_first_call(name: str, known: set[str]) -> str:
    source = _fragment(name)
    inner = "\n".join([*_parts(source, set(known)), source])
    exports = ",\n    ".join(f"{export} = {export}" for export in _names(_EXPORTS, source))
    return (
        f"local {name}_functions\nlocal function {name}()\n  if {name}_functions then\n"
        f"    return {name}_functions\n  end\n{inner}\n"
        f"  {name}_functions = {{ {exports} }}\n  return {name}_functions\nend\n"
    )


def _names(line: re.Pattern[str], text: str) -> list[str]:
    found = line.search(text)
    return re.findall(r"[a-z_]+", found["names"]) if found else []


def _fragment(name: str) -> str:
    return (folder() / "lib" / f"{name}.lua").read_text(encoding="utf-8")
