"""What an agent is told when it starts: where the host is, who the agent is, and where its token lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ringfence.bounded import MAX_SECONDS

from ringfence_satellite.protocol import HEARTBEAT_SECONDS, PATH

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


class AgentSettingsError(ValueError):
    """The agent cannot start as it was told to; the message says what to change."""


class TokenFileError(AgentSettingsError):
    """The token file cannot be read, or holds no token."""


def websocket_url(url: str) -> str:
    """The satellite endpoint of the host at `url`.

    It is a ws, wss, http or https address, with or without the endpoint's path.

    Raises:
        AgentSettingsError: if `url` is no such address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or half of an IPv6 address
        usable = False
    if not usable:
        raise AgentSettingsError(
            f"{url!r} is not the address of a host: use one such as wss://core.example.org"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise AgentSettingsError(
            f"{parts.hostname}: the address must not hold a user, a query or a fragment; "
            "give the token with --token-file"
        )
    base = parts.path.rstrip("/")
    path = base if base.endswith(PATH) else base + PATH
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Where to connect, and as whom.

    `urls` are the instances of one host, of which any will do; `heartbeat_seconds` is the pause between heartbeats,
    `state_dir` where results wait to be delivered, and what checks keep is (by default beside the token file).
    """

    urls: tuple[str, ...]
    client_id: str
    token_file: Path
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    state_dir: Path | None = None
    version: str = "0"

    def __post_init__(self) -> None:
        if not self.urls:
            raise AgentSettingsError("give the address of at least one host")
        object.__setattr__(self, "urls", tuple(dict.fromkeys(map(websocket_url, self.urls))))
        if not 0 < self.heartbeat_seconds <= MAX_SECONDS:
            raise AgentSettingsError(
                f"the pause between heartbeats must be above 0 and at most {MAX_SECONDS:g} seconds, "
                f"not {self.heartbeat_seconds}"
            )

    @property
    def results_dir(self) -> Path:
        """Where this satellite's results wait to be delivered: its own, if several run on one machine."""
        return self._own("results")

    @property
    def runs_dir(self) -> Path:
        """Where the results of the runs that a host has asked for wait."""
        return self._own("runs")

    @property
    def states_dir(self) -> Path:
        """Where what its checks keep from one run to the next is."""
        return self._own("states")

    @property
    def packages_dir(self) -> Path:
        """Where the packages are that scripts import here. Runs of other users have to reach it."""
        return self._own("packages")

    @property
    def directory(self) -> Path:
        """Where all of this is."""
        return self.state_dir or self.token_file.absolute().parent

    @property
    def log_name(self) -> str:
        """What its log is called, among those of other agents that keep theirs in the same place."""
        return f"agent-{self._name()[:8]}"

    def _own(self, what: str) -> Path:
        return self.directory / f"{what}-{self._name()}"

    def _name(self) -> str:
        return "".join(one if one.isalnum() or one == "-" else "_" for one in self.client_id)[:64]

    def read_token(self) -> str:
        """The token, read anew for every connection, so that a rotated one is picked up without a restart.

        Raises:
            TokenFileError: if it cannot be read, or is empty.
        """
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenFileError(f"cannot read the token file {self.token_file}: {error}") from error
        if not token:
            raise TokenFileError(f"the token file {self.token_file} is empty")
        return token
