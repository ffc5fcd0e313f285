"""The running host as the commands see it: where it is, with which token, and what its answers mean.

The admin token of this machine's data directory is sent only to the address that the host in that directory
noted there. An address from the environment gets the token from the environment, or none: a token must not
follow wherever `RINGFENCE_URL` points.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import urlsplit

from ringfence.process import trust
from ringfence.process.errors import CliError, UsageMistake

if TYPE_CHECKING:
    import httpx

_SENDABLE = re.compile(r"[\x21-\x7e]+")
"""What a header can carry as one word (RFC 9110, 5.5). Anything else the HTTP library would refuse, and show."""

REQUEST_SECONDS = 30.0
"""How long a command waits for an answer, unless it asks for work that takes longer."""


class NoHost(CliError):
    """No host can be asked: none is known, none answers, or there is no token for it."""


class NoAnswer(CliError):
    """The host has taken a request and does not answer it in time."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a host is, and the token to use there."""

    url: str
    token: str


class ApiError(CliError):
    """The host refused a request; `problem` is the problem document that it answered."""

    problem: Mapping[str, Any]

    def __init__(self, status: int, problem: Mapping[str, Any], *, hint: str | None = None) -> None:
        self.status = status
        title = str(problem.get("title") or f"the host answered {status}")
        detail = problem.get("detail")
        super().__init__(f"{title}: {detail}" if detail else title, hint=hint, problem=problem)


def _check_sendable(texts: Mapping[str, object]) -> None:
    """Raise `UsageMistake` for what no host would take, or no URL can carry: an argument that is not UTF-8, say."""
    from ringfence.bounded import bounded_json

    try:
        bounded_json(dict(texts))
    except ValueError as error:
        raise UsageMistake(f"an argument cannot be used: it {error}") from error


def find_address(environ: Mapping[str, str] | None = None) -> Address:
    """The host to talk to: `RINGFENCE_URL` and `RINGFENCE_TOKEN`, or else the one that runs on this machine.

    Raises:
        NoHost: if neither names one, or there is no token to use with it.
    """
    environ = os.environ if environ is None else environ
    directory = local_data_dir(environ)
    noted = _noted_url(directory) if directory is not None else None
    url = environ.get("RINGFENCE_URL") or noted
    if not url:
        raise NoHost(
            "no running host is known: RINGFENCE_URL is not set, and no host runs in "
            f"{directory or 'a home directory'}",
            hint="Start one with `ringfence up`, or set RINGFENCE_URL and RINGFENCE_TOKEN to use another.",
        )
    _check_url(url)
    token: str | None = environ.get("RINGFENCE_TOKEN", "").strip()
    if not token and directory is not None and noted and url.rstrip("/") == noted.rstrip("/"):
        token = _admin_token(directory)
    if not token:
        raise NoHost(
            f"no token to use at {url}",
            hint="Set RINGFENCE_TOKEN to one that was made there with `ringfence token create`.",
        )
    if not _SENDABLE.fullmatch(token):
        raise UsageMistake(
            f"the token for {url} is not valid: it holds spaces, line breaks or letters beyond ASCII",
            hint="Check RINGFENCE_TOKEN (unset: this machine's admin token).",
        )
    return Address(url.rstrip("/"), token)


class HostClient:
    """Requests to one host; use as a context manager."""

    def __init__(self, address: Address, *, transport: httpx.BaseTransport | None = None) -> None:
        import httpx

        self.address = address
        self._http = httpx.Client(
            base_url=address.url,
            # Who sits at a terminal may have changed it just now, at another instance.
            headers={"authorization": f"Bearer {address.token}", "cache-control": "no-cache"},
            timeout=REQUEST_SECONDS,
            transport=transport,
            verify=trust.context() if address.url.startswith("https:") else True,
            trust_env=not _is_loopback(address.url),  # a proxy has no business between us and ourselves
        )

    @classmethod
    def connect(cls) -> Self:
        """A client for the host that the environment or the data directory names. Raises `NoHost`."""
        return cls(find_address())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str | int | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Any:
        """The answer's JSON, or None when there is none.

        Raises:
            UsageMistake: if it holds text that cannot be sent.
            NoHost: if nobody answers at the address.
            NoAnswer: if it takes longer than `timeout` seconds.
            ApiError: if the host refuses.
            CliError: if what answers is no Ringfence host.
        """
        import httpx

        params = dict(params or {})
        _check_sendable({"": path, **params})
        try:
            response = self._http.request(
                method,
                path,
                content=None if body is None else json.dumps(body),
                params=params,
                headers={**(headers or {}), **({} if body is None else {"content-type": "application/json"})},
                timeout=timeout,
            )
        except httpx.TransportError as error:
            raise self._broken(error, timeout) from error
        if response.is_success:
            return self._json(response) if response.content else None
        raise self._refusal(response)

    def download(self, path: str, into: BinaryIO, *, timeout: float = REQUEST_SECONDS) -> int:
        """Write what the host answers into a file, as it comes; answers how many bytes. Raises as `request` does."""
        import httpx

        _check_sendable({"": path})
        count = 0
        try:
            with self._http.stream("GET", path, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
                for piece in response.iter_bytes():
                    into.write(piece)
                    count += len(piece)
        except httpx.TransportError as error:
            raise self._broken(error, timeout) from error
        return count

    def upload(
        self,
        path: str,
        content: Iterator[bytes],
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Any:
        """Send pieces as they come; the answer's JSON. Raises as `request` does."""
        import httpx

        _check_sendable({"": path, **(params or {})})
        try:
            response = self._http.post(
                path, content=content, params=dict(params or {}), timeout=httpx.Timeout(timeout, read=None)
            )
        except httpx.TransportError as error:
            raise self._broken(error, timeout) from error
        if response.is_success:
            return self._json(response)
        raise self._refusal(response)

    def _broken(self, error: httpx.TransportError, timeout: float) -> CliError:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return NoAnswer(f"the host at {self.address.url} did not answer within {timeout:g} s")
        return NoHost(
            f"no host answers at {self.address.url}: {error}",
            hint="Start one with `ringfence up`, or set RINGFENCE_URL to where it is.",
        )

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise CliError(
                f"{response.request.url} answered something other than JSON: is that a Ringfence host?"
            ) from error

    def _refusal(self, response: httpx.Response) -> CliError:
        try:
            problem = response.json()
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {
                "title": f"{response.request.url} answered {response.status_code} {response.reason_phrase}"
            }
        hint = None
        if problem.get("status") != response.status_code:
            hint = "This is not the answer of a Ringfence host: check RINGFENCE_URL."
        elif response.status_code == 401:
            hint = "The token was not accepted: check RINGFENCE_TOKEN (unset: this machine's admin token)."
        elif response.status_code == 403:
            hint = "Make a token that holds that access rule: `ringfence token create NAME --rule RULE`."
        return ApiError(response.status_code, problem, hint=hint)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        usable = False
    if not usable:
        raise UsageMistake(f"RINGFENCE_URL must be an http or https address, not {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageMistake(
            "RINGFENCE_URL must not hold a user, a query or a fragment: put the token into RINGFENCE_TOKEN"
        )


def local_data_dir(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where a host on this machine would leave its note; None for a user without a home."""
    if named := environ.get("RINGFENCE_DATA_DIR"):
        return Path(named).expanduser()
    from ringfence.storage.datadir import DataDirError, default_data_dir

    try:
        return default_data_dir()
    except DataDirError:
        return None


def _noted_url(data_dir: Path) -> str | None:
    from ringfence.storage.datadir import DataDir

    return DataDir(data_dir).read_instance_note().get("url")


def _admin_token(data_dir: Path) -> str | None:
    from ringfence.storage.datadir import DataDir

    path = DataDir(data_dir).admin_token_path
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NoHost(
            f"the admin token {path} cannot be read: {error.strerror}",
            hint="It belongs to the user that runs the host; set RINGFENCE_TOKEN to a token of your own.",
        ) from error


def _is_loopback(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
