"""The running host as the commands see it: requests to it, and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ringfence.cli.address import Address, NoHost, find_address
from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.proxies import proxy_for
from ringfence.process.trust import TlsFiles

if TYPE_CHECKING:
    import httpx

REQUEST_SECONDS = 30.0
"""How long a command waits for an answer, unless it asks for work that takes longer."""


class NoAnswer(CliError):
    """The host has taken a request and does not answer it in time."""


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


class HostClient:
    """Requests to one host; use as a context manager."""

    def __init__(self, address: Address, *, transport: httpx.BaseTransport | None = None) -> None:
        import httpx

        self.address = address
        tls = TlsFiles.of_environment() if address.tls is None else address.tls
        try:
            self._http = httpx.Client(
                base_url=address.url,
                # Who sits at a terminal may have changed it just now, at another instance.
                headers={"authorization": f"Bearer {address.token}", "cache-control": "no-cache"},
                timeout=REQUEST_SECONDS,
                transport=transport,
                verify=tls.context() if address.url.startswith("https:") else True,
                proxy=None if transport is not None else proxy_for(address.url),
                trust_env=False,  # the environment's proxies are read in one place, for agents as well
            )
        except (
            ImportError,
            ValueError,
            httpx.InvalidURL,
        ) as error:
            raise UsageMistake(
                "the proxy that the environment names cannot be used",
                hint="HTTPS_PROXY, HTTP_PROXY and ALL_PROXY take http://HOST:PORT, or socks5h://HOST:PORT with the "
                "Python package socksio; NO_PROXY names what is reached without.",
            ) from error

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
            hint = f"The token was not accepted: check {self.address.said_by}."
        elif response.status_code == 403:
            hint = "Make a token that holds that access rule: `ringfence token create NAME --rule RULE`."
        return ApiError(response.status_code, problem, hint=hint)
