"""Asks registries over HTTP.

Threat: a registry, or someone between, answers with what has no end, sends us to other places again and again, takes
for ever, or wants a credential that belongs to somebody else. Mechanism: every body has a bound and every request a
deadline, each hop of a redirect is judged anew, and a credential is looked up for the origin of each hop. No error
holds a credential, a query or what a registry wrote. Not covered: what the answers say; who reads them looks.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urljoin, urlsplit

import httpx
from ringfence.bounded import cleaned

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.registries import Registries, Registry, authorization

MOST_REDIRECTS = 5
LARGEST_PAGE = 32 * 1024 * 1024
"""How large a page of an index may be: even of packages with thousands of files they have a few MiB."""

PAGE_SECONDS, CONNECT_SECONDS, SILENCE_SECONDS = 90.0, 15.0, 30.0
"""How long a page may take, how long a connection, and how long a registry may say nothing in the middle."""

SecretValues = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]
"""The values of secrets by their names, as the secrets plugin gives them."""


class RegistryClient:
    """Asks the registries, and who they send us to. Each has connections of its own; close it when done."""

    def __init__(self, registries: Registries, secrets: SecretValues | None = None) -> None:
        self.registries = registries
        self._secrets = secrets
        context = trust(registries.cafiles)
        self._http = httpx.AsyncClient(
            verify=context,
            mounts=ways(registries, context),
            follow_redirects=False,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=24, max_keepalive_connections=12),
            headers={"user-agent": "ringfence"},
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def open(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        package: str | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a request, whose body is still to be read; redirects are followed.

        Raises:
            PackagesError: if nobody answers, or not with a success.
        """
        asked = url
        for _ in range(MOST_REDIRECTS + 1):
            if (why := self.registries.why_not(url)) is not None:
                raise PackagesError(
                    Why.FAILED,
                    f"{place_of(asked)} sends us to a place that is not asked: {why}",
                    package=package,
                    hint="ask whoever runs the registry to serve its files by https",
                )
            request = self._http.build_request(method, url, headers=dict(headers or {}), content=content)
            if (header := await self._authorization(self.registries.owner_of(url))) is not None:
                request.headers["authorization"] = header
            try:
                response = await self._http.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
                raise unreachable(url, error, package) from error
            async with aclosing(response):
                if response.is_redirect:
                    url = _joined(url, response.headers.get("location", ""))
                    continue
                _judge(response, url, package, self.registries.unmet_at(url))
                yield response
                return
        raise PackagesError(
            Why.FAILED,
            f"{place_of(asked)} redirects more than {MOST_REDIRECTS} times",
            package=package,
            hint="ask whoever runs the registry",
        )

    async def page(
        self,
        url: str,
        *,
        accept: str,
        method: str = "GET",
        content: bytes | None = None,
        package: str | None = None,
    ) -> tuple[str, str, bytes]:
        """A whole page: its address in the end, its type, and its content. Raises `PackagesError`."""
        headers = {"accept": accept}
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                async with self.open(
                    url, method=method, headers=headers, content=content, package=package
                ) as answer:
                    body = bytearray()
                    async for piece in answer.aiter_bytes(64 * 1024):
                        body += piece
                        if len(body) > LARGEST_PAGE:
                            raise PackagesError(
                                Why.TOO_LARGE,
                                f"{place_of(url)} answers with a page of more than {LARGEST_PAGE // 1024**2} MiB",
                                package=package,
                                hint="ask whoever runs the registry",
                            )
                    return str(answer.url), answer.headers.get("content-type", ""), bytes(body)
        except TimeoutError as error:
            raise unreachable(url, error, package) from error
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            raise unreachable(url, error, package) from error

    async def _authorization(self, registry: Registry | None) -> str | None:
        if registry is None or registry.secret is None:
            return None if registry is None else registry.authorization
        hint = f"set it with `ringfence secret set {registry.secret}`: NAME:PASSWORD, or a token"
        if self._secrets is None:
            raise PackagesError(
                Why.REFUSED,
                f"the credential of {place_of(registry.url)} cannot be had without the secrets plugin",
            )
        try:
            values = await self._secrets((registry.secret,))
            return authorization(values[registry.secret])
        except (RuntimeError, KeyError) as error:
            why = str(error) if isinstance(error, RuntimeError) else "it does not exist"
            raise PackagesError(
                Why.REFUSED, f"the credential of {place_of(registry.url)} cannot be had: {why}", hint=hint
            ) from None
        except ValueError as error:
            raise PackagesError(
                Why.REFUSED, f"the credential of {place_of(registry.url)} cannot be sent: {error}", hint=hint
            ) from None


def trust(cafiles: Collection[str]) -> ssl.SSLContext:
    """TLS as this machine has it: its certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR`), and those of pip and npm."""
    context = ssl.create_default_context()
    for path in cafiles:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise PackagesError(
                Why.FAILED,
                f"the certificates in {path} cannot be read: {error}",
                hint="pip (`cert`) or npm (`cafile`) of this machine is configured for that file",
            ) from error
    return context


def ways(registries: Registries, context: ssl.SSLContext) -> dict[str, httpx.AsyncHTTPTransport | None]:
    """By which proxy each place is asked, as `httpx` has it; by none where nothing is said."""
    if registries.proxy is None:
        return {}
    direct = {f"all://{pattern}": None for host in registries.direct for pattern in (host, f"*.{host}")}
    # A proxy does not know what is on this machine.
    loopback = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))
    tls = context if registries.proxy.startswith("https:") else None
    through = httpx.AsyncHTTPTransport(proxy=httpx.Proxy(registries.proxy, ssl_context=tls), verify=context)
    return {"all://": through, **loopback, **direct}


def place_of(url: str) -> str:
    """Which server an address is at, for people: without what may be a secret in it."""
    parts = urlsplit(url)
    return cleaned(parts.netloc.rpartition("@")[2], 300) or cleaned(parts.path, 300)


def unreachable(url: str, error: BaseException, package: str | None) -> PackagesError:
    """That a server does not answer, and how."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        what = "it does not answer in time"
    elif "CERTIFICATE_VERIFY_FAILED" in str(error):
        what = "its certificate is not trusted here"
    elif isinstance(error, httpx.ConnectError):
        what = f"no connection can be made ({error})"
    else:
        what = f"the connection fails ({type(error).__name__})"
    hint = "check the network of this host, and the addresses of the registries"
    if "certificate" in what:
        hint = "name the certificates to trust by SSL_CERT_FILE, or in the configuration of pip or npm"
    return PackagesError(
        Why.UNREACHABLE, f"{place_of(url)} cannot be reached: {what}", package=package, hint=hint
    )


def _joined(url: str, location: str) -> str:
    """Where a redirect leads; nowhere, if that cannot be read."""
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def _judge(response: httpx.Response, url: str, package: str | None, unmet: str | None) -> None:
    status, place = response.status_code, place_of(url)
    if response.is_success:
        return
    if status in (401, 403):
        hint = "name a secret as the credential of that registry, and check its value"
        if unmet is not None:
            hint = f"{unmet}: {hint}"
        raise PackagesError(
            Why.REFUSED,
            f"{place} refuses the request ({status}): it wants a credential, or another one",
            package=package,
            hint=hint,
        )
    if status in (404, 410):
        raise PackagesError(
            Why.NOT_FOUND,
            f"{place} does not have it ({status})",
            package=package,
            hint="check the name; if it was there before, make a new lock with `ringfence packages install --upgrade`",
        )
    raise PackagesError(
        Why.UNREACHABLE, f"{place} answers with an error ({status})", package=package, hint="try again later"
    )
