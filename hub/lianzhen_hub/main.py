"""Entry of ``lianzhen-hub``: says in one sentence what is missing, if the extra is."""

import sys
from importlib.util import find_spec
from typing import Final

_OF_THE_EXTRA: Final = ("sqlalchemy", "alembic", "psycopg", "botocore")
"""What a box has no use for. Looked for and not imported: a verb imports what it needs."""


def main() -> None:
    """Run the command line and exit with its status."""
    for library in _OF_THE_EXTRA:
        if find_spec(library) is None:
            sys.exit(f"lianzhen-hub: {library} is missing; install lianzhen[hub]")
    from . import cli

    sys.exit(cli.run())
