"""The command line, and the parts that run servers: replay, demo, embedded servers."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        # Imported here, so that a process which needs only a part does not load the rest.
        from faregate.cli.app import main as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        hint = "pip install 'faregate[cli]'"
        print(f"faregate: {error.name} is not installed: {hint}", file=sys.stderr)
        # Wrong use: 1 would mean that the ledger is not exact.
        sys.exit(2)
    run()
