"""Finds, assembles and names the Lua scripts.

A script is sent as `#!lua` with the flags that its header names in a line `flags:`, then the
fragments that it uses, directly or through others, then its body. With `#!lua` the server checks
declared keys and memory before the script starts, instead of failing in its middle (Redis 7 and
later, Valkey).

A script runs from its first line in each call, and each function definition takes 0.15 µs. So a
script whose header names a `function:` is loaded as a library of Redis functions, and its functions
are defined once. All other scripts are rare, and run even if Redis is too full to load a library.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

from redis.exceptions import NoScriptError

from faregate.domain.errors import ConfigurationError

_FLAGS = re.compile(r"^-- flags: (?P<flags>[a-z,-]+)$", re.MULTILINE)
_FUNCTION = re.compile(r"^-- function: (?P<function>[a-z_]+)$", re.MULTILINE)
_USES = re.compile(r"^-- uses: (?P<names>[a-z_]+(?:,(?:\n--)? +[a-z_]+)*)$", re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it is sent."""

    name: str
    source: str
    #: The command that loads it, and the command that asks whether it is loaded.
    load: tuple[str, ...]
    exists_command: tuple[str, ...]
    #: The beginning of the command that runs it; the number of keys follows.
    run_command: tuple[str, str]


def folder() -> Path:
    """Return the folder of the scripts: inside the installed package, or in a checkout.

    Raises:
        ConfigurationError: The folder is missing, so the installation is broken.
    """
    for candidate in (_PACKAGE / "lua", _PACKAGE.parents[1] / "lua"):
        if candidate.is_dir():
            return candidate
    raise ConfigurationError(f"no folder `lua` beside {_PACKAGE}: install faregate again")


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(path.stem for path in folder().glob("*.lua"))


def make(name: str, code: str) -> Script:
    """Make a script from its code: fragments and body."""
    # Redis names scripts by SHA-1; this is no security measure.
    function = _FUNCTION.search(code)
    if function:
        library = f"faregate_{name}_{sha1(code.encode(), usedforsecurity=False).hexdigest()}"
        register = f"redis.register_function('{library}', {function['function']})"
        source = f"#!lua name={library}\n{code}\n{register}\n"
        return Script(
            name,
            source,
            load=("FUNCTION", "LOAD", "REPLACE", source),
            exists_command=("FUNCTION", "LIST", "LIBRARYNAME", library),
            run_command=("FCALL", library),
        )
    flags = _FLAGS.search(code)
    source = f"#!lua flags={flags['flags']}\n{code}" if flags else f"#!lua\n{code}"
    digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(
        name,
        source,
        load=("SCRIPT", "LOAD", source),
        exists_command=("SCRIPT", "EXISTS", digest),
        run_command=("EVALSHA", digest),
    )


@cache
def load(name: str) -> Script:
    """Assemble a script."""
    body = (folder() / f"{name}.lua").read_text(encoding="utf-8")
    return make(name, "\n".join([*_parts(body, set()), body]))


def is_unknown(error: Exception) -> bool:
    """Return whether a server refused a call since the script is not loaded."""
    return isinstance(error, NoScriptError) or "Function not found" in str(error)


def dump(target: Path) -> None:
    """Write every assembled script into a folder, without `#!lua`, for a linter to read."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names():
        _, _, source = load(name).source.partition("\n")
        (target / f"{name}.lua").write_text(source, encoding="utf-8")


def _parts(text: str, known: set[str]) -> list[str]:
    """Return the new fragments that a text uses, each after those that it uses itself."""
    parts = []
    found = _USES.search(text)
    for name in re.findall(r"[a-z_]+", found["names"]) if found else ():
        if name not in known:
            known.add(name)
            source = _fragment(name)
            parts += [*_parts(source, known), source]
    return parts


def _fragment(name: str) -> str:
    return (folder() / "lib" / f"{name}.lua").read_text(encoding="utf-8")
