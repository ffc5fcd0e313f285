"""What several routes take."""

from typing import Annotated

from fastapi import Path
from ringfence.bounded import STORABLE

Name = Annotated[str, Path(max_length=100), STORABLE]
"""The name of an automation, in the path."""
