"""Which certificate authorities a connection to a host may trust: the system's, and those of one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.process.errors import UsageMistake

if TYPE_CHECKING:
    import ssl

CA_FILE_VARIABLE = "RINGFENCE_CA_FILE"


def context(ca_file: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """TLS that trusts the system's authorities and those in `ca_file` (PEM), or in the file that the variable names.

    Raises:
        UsageMistake: if that file cannot be read, or holds no certificates.
    """
    import ssl

    named = ca_file or environ.get(CA_FILE_VARIABLE)
    made = ssl.create_default_context()
    if named:
        try:
            made.load_verify_locations(cafile=str(Path(named).expanduser()))
        except (OSError, RuntimeError) as error:
            raise UsageMistake(
                f"cannot trust the certificates in {named}: {getattr(error, 'strerror', None) or error}",
                hint=f"--ca-file and {CA_FILE_VARIABLE} take a file of certificates in PEM.",
            ) from error
    return made
