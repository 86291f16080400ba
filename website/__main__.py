"""Builds the site: `python -m website` writes it into build/site."""

import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from website.navigation import ROOT
from website.sources import assemble

_BUILD = ROOT / "build"


def build(site: Path) -> int:
    """Build the site; a warning is an error.

    Returns:
        The exit code: 0 if it was built.
    """
    source = _BUILD / "website"
    assemble(source)
    options = ["-q", "-E", "-a", "-W", "--keep-going", "-c", str(Path(__file__).parent)]
    return int(sphinx(["-b", "html", *options, str(source), str(site)]))


if __name__ == "__main__":
    sys.exit(build(_BUILD / "site"))
