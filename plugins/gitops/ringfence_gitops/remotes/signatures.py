"""Whether a commit is signed by somebody whom the source names.

The keys stand in the source, in the form in which ssh and GnuPG take them: lines of `allowed_signers` (ssh-keygen(1)),
or public keys in ASCII armour. Threat: whoever may push, or the server itself, has the host apply what nobody has
approved. Mechanism: git looks at the signature of the newest commit with these keys and no others; where one kind of
keys is not given, no signature of that kind is good. Not covered: commits before the newest, which its signer has built
upon; and an older signed commit that a branch is set back to is refused by its time alone (`ringfence_gitops.syncing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ringfence_gitops.remotes.commit import SHORT, Commit
from ringfence_gitops.remotes.git import Git, RemoteError

MOST_SIGNER = 200
_BY = re.compile(r'Good "git" signature for (.+?) with |Good signature from "(.+?)"')


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures are good. With neither, none is asked for."""

    allowed_signers: str | None = None
    gpg_keys: str | None = None

    @property
    def are_asked_for(self) -> bool:
        """Whether a commit has to be signed."""
        return bool(self.allowed_signers or self.gpg_keys)


async def signer_of(git: Git, commit: Commit, signers: Signers) -> str:
    """Who has signed a commit. Raises `RemoteError` if that is none of the signers."""
    if not commit.is_signed:
        raise RemoteError(f"commit {commit.id[:SHORT]} is not signed, and the source asks for a signature")
    allowed = git.directory / "allowed_signers"
    allowed.write_text((signers.allowed_signers or "").strip() + "\n")
    keys = git.directory / "home" / "gnupg"
    keys.mkdir(mode=0o700, exist_ok=True)
    # A new directory would otherwise have its keys kept by a daemon.
    (keys / "common.conf").touch()
    if signers.gpg_keys:
        importing = ("--batch", "--quiet", "--no-autostart", "--status-fd", "1", "--import")
        _, imported, told = await git.ask(*importing, stdin=signers.gpg_keys.encode(), program="gpg")
        # Its exit status is no evidence: it also fails where the path is too long for the socket of an agent, which
        # public keys do not need. It says of each key that it is there (GnuPG's doc/DETAILS).
        if b"[GNUPG:] IMPORT_OK " not in imported:
            raise git.error(told, "gpg")
    status, _, told = await git.ask(
        *("-c", f"gpg.ssh.allowedSignersFile={allowed}", "-c", "gpg.minTrustLevel=undefined"),
        *("verify-commit", "-v", commit.id),
    )
    if status != 0:
        raise RemoteError(f"commit {commit.id[:SHORT]} is signed by nobody whom the source names")
    found = _BY.search(told)
    return "" if found is None else (found[1] or found[2])[:MOST_SIGNER]
