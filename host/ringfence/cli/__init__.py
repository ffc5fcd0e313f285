"""The kit for commands of `ringfence`: the host's own are made of it, and so are those of every plugin.

`output`, `lists` and `report` are its modules; the names are resolved on first use, so that a command line loads
no more than it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringfence.cli.address import Address, NoHost
    from ringfence.cli.app import main
    from ringfence.cli.client import ApiError, HostClient, NoAnswer
    from ringfence.cli.completing import names_as, names_from, names_here
    from ringfence.cli.confirming import Yes, agrees, can_ask, confirm
    from ringfence.cli.extension_points import Line, Outcome, PackagesToRun, ScriptToRun, Serving
    from ringfence.cli.given.documents import parse_object, read_object
    from ringfence.cli.given.durations import duration
    from ringfence.cli.given.needs import NeedNetwork, NeedsOption, needed
    from ringfence.cli.given.packages import PackagesOption, packages_here
    from ringfence.cli.given.policies import policy_here
    from ringfence.cli.given.programs import IsCommand, WithProgram, is_program
    from ringfence.cli.given.scripts import (
        Arguments,
        Code,
        Kind,
        ScriptFile,
        ScriptKind,
        Variables,
        WithArguments,
        kind_of,
        lasting_kind_of,
        name_of,
        read_file,
        read_script,
        variables,
    )
    from ringfence.cli.options import AsJson, asks_no_host
    from ringfence.cli.server_extra import needs_server
    from ringfence.process.errors import (
        FAILURE,
        INTERRUPTED,
        REFUSED,
        TIMED_OUT,
        USAGE,
        CliError,
        UsageMistake,
    )
    from ringfence.process.standard_streams import read_at_most

__all__ = [
    "FAILURE",
    "INTERRUPTED",
    "REFUSED",
    "TIMED_OUT",
    "USAGE",
    "Address",
    "ApiError",
    "Arguments",
    "AsJson",
    "CliError",
    "Code",
    "HostClient",
    "IsCommand",
    "Kind",
    "Line",
    "NeedNetwork",
    "NeedsOption",
    "NoAnswer",
    "NoHost",
    "Outcome",
    "PackagesOption",
    "PackagesToRun",
    "ScriptFile",
    "ScriptKind",
    "ScriptToRun",
    "Serving",
    "UsageMistake",
    "Variables",
    "WithArguments",
    "WithProgram",
    "Yes",
    "agrees",
    "asks_no_host",
    "can_ask",
    "confirm",
    "duration",
    "is_program",
    "kind_of",
    "lasting_kind_of",
    "main",
    "name_of",
    "names_as",
    "names_from",
    "names_here",
    "needed",
    "needs_server",
    "packages_here",
    "parse_object",
    "policy_here",
    "read_at_most",
    "read_file",
    "read_object",
    "read_script",
    "variables",
]

_HOME = {
    "main": "ringfence.cli.app",
    **dict.fromkeys(("Address", "NoHost"), "ringfence.cli.address"),
    **dict.fromkeys(("ApiError", "HostClient", "NoAnswer"), "ringfence.cli.client"),
    **dict.fromkeys(("parse_object", "read_object"), "ringfence.cli.given.documents"),
    **dict.fromkeys(
        ("FAILURE", "INTERRUPTED", "REFUSED", "TIMED_OUT", "USAGE", "CliError", "UsageMistake"),
        "ringfence.process.errors",
    ),
    **dict.fromkeys(("Yes", "agrees", "can_ask", "confirm"), "ringfence.cli.confirming"),
    "duration": "ringfence.cli.given.durations",
    "needs_server": "ringfence.cli.server_extra",
    **dict.fromkeys(("PackagesOption", "packages_here"), "ringfence.cli.given.packages"),
    **dict.fromkeys(("NeedNetwork", "NeedsOption", "needed"), "ringfence.cli.given.needs"),
    **dict.fromkeys(("AsJson", "asks_no_host"), "ringfence.cli.options"),
    **dict.fromkeys(("names_as", "names_from", "names_here"), "ringfence.cli.completing"),
    "policy_here": "ringfence.cli.given.policies",
    "read_at_most": "ringfence.process.standard_streams",
    **dict.fromkeys(("IsCommand", "WithProgram", "is_program"), "ringfence.cli.given.programs"),
    **dict.fromkeys(
        ("Line", "Outcome", "PackagesToRun", "ScriptToRun", "Serving"), "ringfence.cli.extension_points"
    ),
    **dict.fromkeys(
        (
            "Arguments",
            "Code",
            "Kind",
            "ScriptFile",
            "ScriptKind",
            "Variables",
            "WithArguments",
            "kind_of",
            "lasting_kind_of",
            "name_of",
            "read_file",
            "read_script",
            "variables",
        ),
        "ringfence.cli.given.scripts",
    ),
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ringfence.cli' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
