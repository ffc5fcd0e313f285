"""What a tree of git holds, as git lists it, and which of it is read. Pure.

Threat: a link that leads out of the repository, a path that does, a submodule, a directory that stands in itself so
often that its list never ends; or a document that is hidden in one of these, so that what it declared before looks as
if it were declared no more. Mechanism: only regular files are read, and they are taken out of git's own store and never
put into a file system; number and sizes are bounded; and a link, or a repository within the repository, among what is
looked at is an error, so that nothing is deleted because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ringfence.declaring import DOCUMENT_SUFFIXES

from ringfence_gitops.remotes.git import RemoteError, TooLargeError

MOST_ENTRIES = 20_000
MOST_LISTED = 8 * 1024**2
MOST_FILES = 1000
LARGEST_FILE = 1024 * 1024
LARGEST_SUM = 12 * 1024 * 1024
_ENTRY = re.compile(rb"([0-7]{6}) ([a-z]+) ([0-9a-f]{40,64}) +([0-9]+|-)\t(.+)", re.DOTALL)
_REGULAR = (b"100644", b"100755", b"100664")
_LINK, _REPOSITORY = b"120000", b"160000"


@dataclass(frozen=True, slots=True)
class Blob:
    """A regular file: the name of its content in git's store, and its size."""

    id: str
    size: int


@dataclass(frozen=True, slots=True)
class Tree:
    """The regular files by their paths, and what is there beside them."""

    files: Mapping[str, Blob]
    others: Mapping[str, str] = field(default_factory=dict)

    def documents(self) -> list[str]:
        """The files with documents. Raises `RemoteError`."""
        for path, what in sorted(self.others.items()):
            if not _is_hidden(path):
                raise RemoteError(f"{path} is {what}, which is not followed")
        found = [one for one in self.files if one.endswith(DOCUMENT_SUFFIXES) and not _is_hidden(one)]
        return sorted(found)

    def chosen(self, paths: Iterable[str]) -> dict[str, Blob]:
        """These files, if they are there. Raises `TooLargeError` and `RemoteError`."""
        found: dict[str, Blob] = {}
        for path in paths:
            if path in self.others:
                raise RemoteError(f"{path} is {self.others[path]}, which is not followed")
            if (blob := self.files.get(path)) is None:
                continue
            if blob.size > LARGEST_FILE:
                raise TooLargeError(f"{path} is larger than {LARGEST_FILE // 1024} KiB")
            found[path] = blob
        if len(found) > MOST_FILES:
            raise TooLargeError(f"there are more than {MOST_FILES} files with documents: name a path within")
        if sum(one.size for one in found.values()) > LARGEST_SUM:
            raise TooLargeError(f"the files are larger than {LARGEST_SUM // 1024**2} MiB together")
        return found


def tree_of(listed: bytes) -> Tree:
    """What `git ls-tree -r -z -l` lists. Raises `RemoteError`."""
    files: dict[str, Blob] = {}
    others: dict[str, str] = {}
    for number, line in enumerate(one for one in listed.split(b"\0") if one):
        if number >= MOST_ENTRIES:
            raise TooLargeError(f"there are more than {MOST_ENTRIES} files: name a path within")
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise RemoteError("git lists a file in a way that is not understood")
        mode, _, id, size, name = entry.groups()
        try:
            path = name.decode()
        except UnicodeDecodeError:
            raise RemoteError("the name of a file is no text in UTF-8") from None
        if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
            raise RemoteError("the path of a file leads out of the repository")
        if mode == _LINK:
            others[path] = "a symbolic link"
        elif mode == _REPOSITORY:
            others[path] = "a submodule"
        elif mode in _REGULAR and size != b"-":
            files[path] = Blob(id.decode(), int(size))
        else:
            others[path] = "no regular file"
    return Tree(files, others)


def contents_of(answer: bytes, wanted: Mapping[str, Blob]) -> dict[str, str]:
    """The texts of files, as `git cat-file --batch` prints them in this order. Raises `RemoteError`."""
    found: dict[str, str] = {}
    at = 0
    for path, blob in wanted.items():
        head = f"{blob.id} blob {blob.size}\n".encode()
        end = at + len(head) + blob.size
        if answer[at : at + len(head)] != head or answer[end : end + 1] != b"\n":
            raise RemoteError(f"git does not give {path} as it has listed it")
        try:
            text = answer[at + len(head) : end].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RemoteError(f"{path} is no text in UTF-8: byte {error.start} does not fit") from None
        if "\0" in text:
            raise RemoteError(f"{path} is no text: it holds a zero byte")
        found[path] = text
        at = end + 1
    return found


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
