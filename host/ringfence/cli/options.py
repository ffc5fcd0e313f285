"""Options that many commands have, so that each means the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from ringfence.cli import output

AsJson = Annotated[
    bool,
    typer.Option("--json", callback=output.tell_machines, help="Print one JSON document, and nothing else."),
]
