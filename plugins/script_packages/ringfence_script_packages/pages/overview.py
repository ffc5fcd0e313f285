"""What the overview and the palette are told of the policy."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence import AccessRule
from ringfence.pages import Attention, Count, Found, View

from ringfence_script_packages.pages.entered import settings
from ringfence_script_packages.policy_store import SandboxPolicies
from ringfence_script_packages.verifying import Verifying
from ringfence_script_packages.weaknesses import DISABLED, weaknesses

MOST_FOUND = 10


class PolicyOverview:
    """Answers for whoever may see the policy, and tells the others nothing."""

    def __init__(self, policies: SandboxPolicies, verifying: Verifying, rule: AccessRule) -> None:
        self._policies = policies
        self._verifying = verifying
        self._rule = rule

    async def attention(self, view: View) -> Sequence[Attention]:
        """A history that does not fit, no sandbox, and weak settings."""
        if not view.may(self._rule):
            return []
        state = self._policies.known() or await self._policies.confirmed()
        found = [
            Attention(text, "/policy", "bad" if text == DISABLED else "warn", 90 if text == DISABLED else 40)
            for text in weaknesses(state.received.policy)
        ]
        if (problem := (await self._verifying.lately()).problem) is not None:
            text = f"The history of the policy was changed directly in the database. {problem}"
            found.append(Attention(text, "/policy/history", "bad", 100))
        return found

    async def counts(self, view: View) -> Sequence[Count]:
        """The revision, and how many destinations are allowed."""
        if not view.may(self._rule):
            return []
        state = self._policies.known() or await self._policies.confirmed()
        return [
            Count("policy revision", state.revision, to="/policy/history"),
            Count(
                "allowed destinations", len(state.received.policy.network.allow), to="/policy#network.allow"
            ),
        ]

    async def find(self, view: View, text: str) -> Sequence[Found]:
        """Settings by their names, entries of the allowlist, and a revision by its number."""
        words = text.lower().split()
        if not view.may(self._rule) or not words:
            return []
        state = self._policies.known() or await self._policies.confirmed()
        found = [
            Found(f"{one.title} ({one.path})", f"/policy#{one.path}", "setting")
            for one in settings().values()
            if all(word in f"{one.title} {one.path}".lower() for word in words)
        ]
        number = words[-1]
        if number.isascii() and number.isdigit() and len(number) < 19 and int(number) <= state.revision:
            found.insert(
                0, Found(f"Policy revision {int(number)}", f"/policy/history/{int(number)}", "revision")
            )
        for entry in state.received.policy.network.allow:
            if len(found) >= MOST_FOUND:
                break
            if all(word in entry.lower() for word in words):
                found.append(Found(entry, "/policy#network.allow", "allowed destination"))
        return found[:MOST_FOUND]
