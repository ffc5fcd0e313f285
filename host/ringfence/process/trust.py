"""The TLS of connections to a host: which authorities are trusted beside the system's, and our own certificate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from ringfence.process.errors import UsageMistake

if TYPE_CHECKING:
    import ssl

CA_FILE_VARIABLE = "RINGFENCE_CA_FILE"
CLIENT_CERT_VARIABLE = "RINGFENCE_CLIENT_CERT"
CLIENT_KEY_VARIABLE = "RINGFENCE_CLIENT_KEY"
_VARIABLES = {
    "ca_file": CA_FILE_VARIABLE,
    "client_cert": CLIENT_CERT_VARIABLE,
    "client_key": CLIENT_KEY_VARIABLE,
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM: authorities to trust beside the system's, and a certificate to show, with its key.

    The key may stand in the certificate's file.
    """

    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The files that the environment names."""
        return cls(**{name: environ.get(variable) or None for name, variable in _VARIABLES.items()})

    def over(self, other: TlsFiles) -> TlsFiles:
        """These files, and of the others what is not named here. A certificate and its key go together."""
        ours = other if self.client_cert is None else self
        key = self.client_key if self.client_cert is not None else self.client_key or other.client_key
        return TlsFiles(self.ca_file or other.ca_file, ours.client_cert, key)

    def absolute(self) -> TlsFiles:
        """The same files, found from any directory."""
        return TlsFiles(
            *(
                None if name is None else str(Path(name).expanduser().absolute())
                for name in (getattr(self, one.name) for one in fields(self))
            )
        )

    def context(self) -> ssl.SSLContext:
        """TLS by these files.

        Raises:
            UsageMistake: if one cannot be read, or holds something else.
        """
        import ssl

        made = ssl.create_default_context()
        if self.ca_file:
            try:
                made.load_verify_locations(cafile=str(Path(self.ca_file).expanduser()))
            except (OSError, RuntimeError) as error:
                raise UsageMistake(
                    f"cannot trust the certificates in {self.ca_file}: {getattr(error, 'strerror', None) or error}",
                    hint=f"--ca-file and {CA_FILE_VARIABLE} take a file of certificates in PEM.",
                ) from error
        if self.client_cert:
            self._show_certificate(made)
        elif self.client_key:
            raise UsageMistake(
                f"{self.client_key} is the key of a certificate that --client-cert does not name"
            )
        return made

    def _show_certificate(self, made: ssl.SSLContext) -> None:
        assert self.client_cert is not None
        certificate = str(Path(self.client_cert).expanduser())
        key = str(Path(self.client_key).expanduser()) if self.client_key else None
        try:
            made.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, RuntimeError) as error:
            files = self.client_cert + (f" with the key in {self.client_key}" if self.client_key else "")
            raise UsageMistake(
                f"cannot use the client certificate in {files}: {getattr(error, 'strerror', None) or error}",
                hint=f"--client-cert ({CLIENT_CERT_VARIABLE}) and --client-key ({CLIENT_KEY_VARIABLE}) take files in "
                "PEM; the key may stand in the first file, and has no password.",
            ) from error


def _no_password() -> NoReturn:
    """Nobody can be asked by an agent; without this, OpenSSL would ask at the terminal."""
    raise RuntimeError("the key has a password")
