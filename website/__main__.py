"""Builds the site: `python -m website [FOLDER]` writes it, into build/site if nothing is said."""

import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

from website.llms import write_llms
from website.navigation import ROOT
from website.sources import BrokenLinkError, assemble

_BUILD = ROOT / "build"


def build(site: Path) -> int:
    """Build the site; a warning is an error.

    Returns:
        The exit code: 0 if it was built.
    """
    source = _BUILD / "website"
    assemble(source)
    options = ["-q", "-E", "-a", "-W", "--keep-going", "-c", str(Path(__file__).parent)]
    code = int(sphinx(["-b", "html", *options, str(source), str(site)]))
    write_llms(site)
    return code


if __name__ == "__main__":
    try:
        sys.exit(build(Path(sys.argv[1]) if sys.argv[1:] else _BUILD / "site"))
    except BrokenLinkError as error:
        sys.exit(f"make docs: {error}")
