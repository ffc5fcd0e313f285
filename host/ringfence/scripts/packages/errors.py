"""Why packages are not there, or are refused. One tree of errors, each with what it is about."""

from __future__ import annotations


class PackagesError(Exception):
    """Packages cannot be had here."""


class PackageRefusedError(PackagesError):
    """A file of a package is not unpacked, and `reason` says what is wrong with it."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"{package}: {reason}")
        self.package = package
        self.reason = reason


class DoesNotFitError(PackagesError):
    """A lock has nothing for this platform."""


class BlobMissingError(PackagesError):
    """A file is not on this machine."""


class BlobDamagedError(PackagesError):
    """A file on this machine, or one that arrives, is not what its name says."""
