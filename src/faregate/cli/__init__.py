"""The command line, and the parts that run servers: replay, demo, embedded servers."""


def main() -> None:
    """Run the command line."""
    # Imported here, so that a process which needs only a part does not load the rest.
    from faregate.cli.app import main as run  # noqa: PLC0415

    run()
