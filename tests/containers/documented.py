"""The flags of docs/containers.md, as runc is told them: the tests start containers with what the document says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from tests.containers.runtime import Flags

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "docs/containers.md"
PROFILE = ROOT / "deploy/seccomp/ringfence-userns.json"


def command() -> list[str]:
    """The words of the document's `docker run`."""
    found = re.search(r"^docker run (.*?[^\\])$", TEXT.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return shlex.split(found[1].replace("\\\n", " "))


def flags(**more: Any) -> Flags:
    """That command's flags, but for its volumes and ports, with `more` of our own."""
    return Flags(**{**_given(command()), **more})


def _given(words: list[str]) -> dict[str, Any]:
    """What Docker's options mean. An option that is not known here is a mistake."""
    options = iter(words[:-1])
    given: dict[str, Any] = {
        "read_only": False,
        "unmasked": False,
        "tun": False,
        "tmpfs": {},
        "seccomp": None,
    }
    dropped = False
    for option in options:
        match option:
            case "--read-only":
                given["read_only"] = True
            case "--tmpfs":
                place, _, how = next(options).partition(":")
                given["tmpfs"][place] = how or "rw"
            case "--cap-drop":
                assert next(options) == "ALL"
                dropped = True
            case "--device":
                assert next(options) == "/dev/net/tun"
                given["tun"] = True
            case "--security-opt":
                given.update(_security(next(options)))
            case "--volume" | "--publish" | "--env":
                next(options)
            case _:
                raise ValueError(f"nobody has said here what {option} means")
    assert dropped
    return given


def _security(option: str) -> dict[str, Any]:
    match option.partition("="):
        case "no-new-privileges", _, _:
            return {}  # all of them have it
        case "seccomp", _, file:
            assert Path(file).name == PROFILE.name
            return {"seccomp": json.loads(PROFILE.read_text())}
        case "systempaths", _, "unconfined":
            return {"unmasked": True}
        case "apparmor", _, "unconfined":
            return {}  # runc confines nothing unless it is told to
    raise ValueError(f"nobody has said here what {option} means")


def other_words() -> dict[str, str]:
    """What the table has for Podman in place of Docker's options, where it differs."""
    rows = re.findall(r"^\| `--security-opt (\S+)` \(`(\S+)`\) \|", TEXT.read_text(), re.MULTILINE)
    return dict(rows)
