"""An index, or a plain directory of wheels, on this machine's own disk."""

from __future__ import annotations

import os
from pathlib import Path

from packaging.utils import canonicalize_name

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.index_pages import IndexFile, files_of
from ringfence_script_packages.packages.resolving.registries import Registry, file_path

LARGEST_PAGE = 16 * 1024 * 1024


def local_files(registry: Registry, name: str) -> tuple[IndexFile, ...] | None:
    """What a registry of this machine has of a package; None if it does not know it. `name` is in its normal form.

    Raises:
        PackagesError: if it is there and cannot be read.
    """
    directory = registry.directory or "/"
    try:
        if registry.flat:
            found = [
                entry
                for entry in os.scandir(directory)
                if canonicalize_name(entry.name.partition("-")[0]) == name and entry.is_file()
            ]
            return (
                tuple(
                    IndexFile(entry.name, Path(entry.path).as_uri(), size=entry.stat().st_size)
                    for entry in found
                )
                or None
            )
        page = Path(directory, name, "index.html")
        with page.open("rb") as file:
            body = file.read(LARGEST_PAGE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PackagesError(
            Why.UNREACHABLE,
            f"{directory} cannot be read: {error.strerror}",
            package=name,
            hint="pip of this machine is configured for it",
        ) from None
    return tuple(map(_with_size, files_of("text/html", body, page.as_uri())))


def _with_size(file: IndexFile) -> IndexFile:
    path = file_path(file.url)
    try:
        size = os.stat(path).st_size if path else None
    except OSError:
        size = None
    return IndexFile(file.filename, file.url, file.sha256, size, file.requires_python, file.yanked)
