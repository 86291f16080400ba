"""The files of this repository, be it a clone of it or an sdist that was unpacked."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What tools write; .gitignore has it, too.
_MADE = re.compile(r"\.venv|build|dist|__pycache__|PKG-INFO|\.hypothesis|\.\w+_cache")


def tracked_files() -> list[Path]:
    """What git tracks or would track; without git, all that no tool has written."""
    if not (ROOT / ".git").exists():
        found = (path for path in ROOT.rglob("*") if path.is_file())
        return sorted(p for p in found if not any(map(_MADE.fullmatch, p.relative_to(ROOT).parts)))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()})
