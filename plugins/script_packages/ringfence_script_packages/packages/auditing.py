"""Audits: what is known to be wrong with the versions of a lock. What is newly known is told once."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Protocol

from ringfence import PluginContext
from ringfence.scripts.packages.lock import Lock
from sqlalchemy import text

from ringfence_script_packages.hooks import (
    ScriptPackagesVulnerable,
    Vulnerability,
    script_packages_vulnerable,
)
from ringfence_script_packages.packages.resolving.audit import Audit
from ringfence_script_packages.packages.sets import Sets

MOST_NAMED = 10
"""How many packages are named of which nothing is known."""

_KEY = "ecosystem, package, version, advisory"
_LOCK_SET = text("SELECT lock_hash FROM script_packages_sets WHERE name = :set FOR UPDATE")
_CLEAR = text("DELETE FROM script_packages_findings WHERE set_name = :set")
_PUT = text("""
    INSERT INTO script_packages_findings
           (set_name, ecosystem, package, version, advisory, summary, url, severity, fixed_in, found_at)
    VALUES (:set, :ecosystem, :package, :version, :advisory, :summary, :url, :severity,
            CAST(:fixed_in AS jsonb), :found_at)
    ON CONFLICT DO NOTHING
""")
_FOUND_AT = text(f"SELECT {_KEY}, found_at FROM script_packages_findings WHERE set_name = :set")  # noqa: S608
_DONE = text("""
    INSERT INTO script_packages_audits (set_name, lock_hash, problems)
    VALUES (:set, :hash, CAST(:problems AS jsonb))
    ON CONFLICT (set_name) DO UPDATE
       SET lock_hash = excluded.lock_hash, problems = excluded.problems, audited_at = now()
""")
_AUDITS = text("""
    SELECT sets.name, sets.lock_hash, audits.lock_hash AS audited, audits.audited_at, audits.problems
      FROM script_packages_sets AS sets LEFT JOIN script_packages_audits AS audits ON audits.set_name = sets.name
     WHERE sets.lock_hash IS NOT NULL AND (CAST(:set AS text) IS NULL OR sets.name = :set) ORDER BY sets.name
""")
_COUNTS = text("""
    SELECT found.set_name, count(*) AS findings
      FROM script_packages_findings AS found JOIN script_packages_sets AS sets ON sets.name = found.set_name
     WHERE sets.lock_hash IS NOT NULL GROUP BY found.set_name ORDER BY found.set_name
""")
_AUDITED = text("SELECT set_name, lock_hash FROM script_packages_audits")
_FINDINGS = text("""
    SELECT set_name, ecosystem, package, version, advisory, summary, url, severity, fixed_in, found_at
      FROM script_packages_findings WHERE CAST(:set AS text) IS NULL OR set_name = :set
     ORDER BY set_name, ecosystem, package, version, advisory
""")


class Auditor(Protocol):
    """Knows of vulnerabilities."""

    async def audit(self, lock: Lock) -> Audit:
        """What is known of the versions of a lock, and of what could not be asked."""


class Audits:
    """Has locks audited, and keeps what was found."""

    def __init__(self, context: PluginContext, sets: Sets, auditor: Auditor) -> None:
        self._context = context
        self._sets = sets
        self._auditor = auditor

    async def audit(self) -> None:
        """Audit the lock of every set."""
        known: dict[str, Audit] = {}
        for name, hash in (await self._sets.current()).items():
            if hash not in known:
                lock = await self._sets.lock(hash)
                if lock is None:
                    continue
                known[hash] = await self._auditor.audit(lock)
            await self._keep(name, hash, known[hash])

    async def _keep(self, name: str, hash: str, audited: Audit) -> None:
        """Keep what was found of a set, and tell what is new, in one transaction."""
        async with self._context.sessions.begin() as session:
            if await session.scalar(_LOCK_SET, {"set": name}) != hash:
                return  # it has another lock by now
            before = {tuple(row[:4]): row.found_at for row in await session.execute(_FOUND_AT, {"set": name})}
            now = dt.datetime.now(dt.UTC)
            new = []
            # What could not be asked about is still known.
            if not audited.not_reachable:
                await session.execute(_CLEAR, {"set": name})
            for one in audited.findings:
                key = (one.ecosystem.value, one.package, one.version, one.id)
                told = Vulnerability(
                    ecosystem=one.ecosystem,
                    package=one.package,
                    version=one.version,
                    advisory=one.id,
                    summary=one.title,
                    url=one.url,
                    severity=one.severity,
                    fixed_in=one.fixed,
                )
                values = {
                    **told.model_dump(),
                    "set": name,
                    "fixed_in": json.dumps(told.fixed_in),
                    "found_at": before.get(key, now),
                }
                await session.execute(_PUT, values)
                if key not in before:
                    new.append(told)
            values = {"set": name, "hash": hash, "problems": json.dumps(_problems(audited))}
            await session.execute(_DONE, values)
            if new:
                fact = ScriptPackagesVulnerable(set=name, lock_hash=hash, found=tuple(new))
                await self._context.emit_hook(script_packages_vulnerable, fact, session=session)

    async def counts(self) -> dict[str, int]:
        """How much is known to be wrong with each set that has a lock; sets of which nothing is are left out."""
        async with self._context.sessions() as session:
            return {row.set_name: int(row.findings) for row in await session.execute(_COUNTS)}

    async def audited(self) -> dict[str, str]:
        """The lock of each set that was audited last."""
        async with self._context.sessions() as session:
            return {row.set_name: row.lock_hash for row in await session.execute(_AUDITED)}

    async def report(self, set: str | None = None) -> list[dict[str, Any]]:
        """What is known of each set that has a lock, or of one, as JSON for the API."""
        async with self._context.sessions() as session:
            audits = (await session.execute(_AUDITS, {"set": set})).all()
            findings = (await session.execute(_FINDINGS, {"set": set})).all()
        return [
            {
                "set": audit.name,
                "lockHash": audit.lock_hash,
                "auditedAt": audit.audited_at,
                "isOfThisLock": audit.audited == audit.lock_hash,
                "problems": audit.problems or [],
                "findings": [
                    {
                        "ecosystem": one.ecosystem,
                        "package": one.package,
                        "version": one.version,
                        "advisory": one.advisory,
                        "summary": one.summary,
                        "url": one.url,
                        "severity": one.severity,
                        "fixedIn": one.fixed_in,
                        "foundAt": one.found_at,
                    }
                    for one in findings
                    if one.set_name == audit.name
                ],
            }
            for audit in audits
        ]


def _problems(audited: Audit) -> list[str]:
    """What could not be asked, in words."""
    told = [f"{one.ecosystem.value}: {one.why}" for one in audited.not_reachable]
    if audited.unknown:
        more = len(audited.unknown) - MOST_NAMED
        named = ", ".join(audited.unknown[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        told.append(f"no registry tells anything of {named}")
    return told
