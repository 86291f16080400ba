"""Distributions as they are built here, and new environments that have no more than they ask for.

FAREGATE_TEST_DIST names a folder with the sdist and the wheel that are to be published.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from zipfile import Path as ZipPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
_S_MAX = 120
_ENDINGS = {"sdist": ".tar.gz", "wheel": ".whl"}
_SCRIPT = """#!{python}
import sys
from {module} import {name}
sys.exit({call}())
"""


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a program and return its standard output; a failure has all that it said."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        timeout=_S_MAX,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(target: str, into: Path, source: Path = ROOT) -> Path:
    """Return an sdist or a wheel, built with the backend that is installed here."""
    ready = os.environ.get("FAREGATE_TEST_DIST")
    if ready and source == ROOT:
        (found,) = (ROOT / ready).glob(f"*{_ENDINGS[target]}")
        return found
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    run(*command, cwd=source)
    (found,) = into.iterdir()
    return found


def new_environment(wheel: Path, folder: Path, names: Iterable[str]) -> Path:
    """Make an environment with a wheel and other distributions; return its Python.

    pip installs the wheel. The others are those that are installed here, without a copy.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-index", "--no-deps", str(wheel)]
    run(*install, *options, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in names:
        _link(name, site, python)
    return python


def locked(lock: str) -> dict[str, str]:
    """The distributions of a lock that are installed on this platform, with their versions."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", "")
    pinned = [Requirement(line.partition(" --hash")[0]) for line in text.splitlines()]
    return {r.name: str(r.specifier) for r in pinned if not r.marker or r.marker.evaluate()}


def _requirements(names: list[str], extras: set[str]) -> list[Requirement]:
    """Those of the requirements that hold here, with these extras."""
    parsed = [Requirement(name) for name in names]
    wanted = extras or {""}
    return [
        r for r in parsed if not r.marker or any(r.marker.evaluate({"extra": e}) for e in wanted)
    ]


def closure(wheel: Path, extra: str = "") -> set[str]:
    """The distributions that a wheel asks for with an extra, and those that these ask for."""
    (info,) = (p for p in ZipPath(wheel).iterdir() if p.name.endswith(".dist-info"))
    own = PathDistribution(info)
    seen: dict[str, set[str]] = {}
    queue = _requirements(own.requires or [], {extra})
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if name in seen and wanted.extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | wanted.extras
        of = own if name == "faregate" else distribution(name)
        queue += _requirements(of.requires or [], seen[name])
    return set(seen) - {"faregate"}


def _link(name: str, site: Path, python: Path) -> None:
    """Make an installed distribution importable in another environment, with its programs."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}
    for top in tops:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(installed.locate_file(top))))
    for point in installed.entry_points.select(group="console_scripts"):
        program = python.parent / point.name
        first = point.attr.partition(".")[0]
        text = _SCRIPT.format(python=python, module=point.module, name=first, call=point.attr)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
