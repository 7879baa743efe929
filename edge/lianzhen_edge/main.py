"""Entry of ``lianzhen-edge``: says in one sentence what is missing, if the extra is."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from . import cli
    except ModuleNotFoundError as error:
        sys.exit(f"lianzhen-edge: {error.name} is missing; install lianzhen[edge]")
    sys.exit(cli.run())
