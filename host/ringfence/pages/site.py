"""All pages of one instance: what every plugin has declared, checked against one another."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from ringfence.access import AccessRule, Principal
from ringfence.declaring import Held
from ringfence.pages.declared import Action, Command, Data, Page, Pages, PagesError, Panel, Rule, View

OWN = ("/api", "/assets", "/find", "/healthz", "/live", "/metrics", "/readyz", "/sign-in", "/sign-out")
"""Paths that no page may have, nor anything beneath them."""
_PATH = re.compile(r"/|(/([a-z0-9][a-z0-9-]*|{[a-z_]+}))+")
_KEY = re.compile("[a-z]( [a-z])?")


@dataclass(frozen=True, slots=True)
class Part:
    """A page, or a panel on one, with the plugin that it is of: what is made anew by itself."""

    plugin: str
    shown: Page | Panel

    @property
    def name(self) -> str:
        """What it is called between a page and the host."""
        return self.shown.path if isinstance(self.shown, Page) else f"{self.plugin}.{self.shown.name}"

    @property
    def template(self) -> str:
        """Its template among those of all plugins."""
        return f"{self.plugin}/{self.shown.template}"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation."""

    title: str
    path: str


def may(principal: Principal, rule: Rule) -> bool:
    """Whether somebody may see what this rule guards; narrowed rules let them in, and the function narrows further."""
    return rule is None or principal.holds_somewhere(rule.name if isinstance(rule, AccessRule) else rule)


def holds_whole(principal: Principal, rule: Rule) -> bool:
    """Whether somebody may see all that this rule guards, of whatever labels."""
    return rule is None or principal.holds(rule.name if isinstance(rule, AccessRule) else rule)


@dataclass(frozen=True, slots=True)
class Choice:
    """A command of the palette that somebody may give."""

    words: str
    to: str
    form: Mapping[str, str] | None
    ask: str | None
    key: str | None


class Site:
    """Pages by path, panels by page, and what of it one may see. Pure."""

    def __init__(self) -> None:
        self.pages: dict[str, Part] = {}
        self.panels: dict[str, Part] = {}
        self.actions: dict[str, tuple[str, Action]] = {}
        self.data: dict[str, Data] = {}
        self.holders: dict[str, Callable[[View], Awaitable[Held | None]]] = {}
        """By template: whether what is shown by it is changed elsewhere alone."""
        self.declared: dict[str, Pages] = {}
        self._commands: list[Command] = []
        self._shapes: dict[str, str] = {}

    @property
    def packages(self) -> dict[str, str]:
        """The package of each plugin's templates."""
        return {plugin: declared.package for plugin, declared in self.declared.items()}

    def add(self, plugin: str, declared: Pages, *, rules: Collection[str]) -> None:
        """Add what a plugin has declared, all of it or nothing. Raises `PagesError`."""
        shapes: dict[str, str] = {}
        placed: list[Page | Action | Data] = [*declared.pages, *declared.actions, *declared.data]
        for one in placed:
            kind = "action" if isinstance(one, Action) else "page"
            _check_path(one.path)
            shape = f"{kind} {re.sub(r'{[^}]*}', '{}', one.path)}"
            owner = self._shapes.get(shape) or shapes.get(shape)
            if owner is not None:
                raise PagesError(f"the {kind} {one.path} is {owner}'s already")
            shapes[shape] = plugin
        names = [panel.name for panel in declared.panels]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PagesError(f"the panel {twice[0]} is declared twice")
        every: list[Page | Panel | Action | Data | Command] = [*placed, *declared.panels, *declared.commands]
        for each in every:
            rule = each.rule.name if isinstance(each.rule, AccessRule) else each.rule
            if rule is not None and rule not in rules:
                raise PagesError(f"{_words(each)} asks for the access rule {rule}, which no plugin declares")
        keys = {command.key for command in self._commands}
        for command in declared.commands:
            if command.form is not None and self._action(command.to, declared.actions) is None:
                raise PagesError(f"{command.words} sends a form to {command.to}, which is no action's path")
            if command.key is not None and (not _KEY.fullmatch(command.key) or command.key in keys):
                raise PagesError(
                    f"the key {command.key!r} is taken, or is not one or two letters: choose another"
                )
            keys.add(command.key)
        self._shapes.update(shapes)
        self.declared[plugin] = declared
        self.pages.update({one.path: Part(plugin, one) for one in declared.pages})
        self.actions.update({one.path: (plugin, one) for one in declared.actions})
        self.data.update({one.path: one for one in declared.data})
        asked = {f"{plugin}/{one.template}": one.held for one in declared.pages if one.held is not None}
        self.holders.update(asked)
        found = (Part(plugin, one) for one in declared.panels)
        self.panels.update({part.name: part for part in found})
        self._commands.extend(declared.commands)

    def panels_of(self, path: str, principal: Principal) -> list[Part]:
        """The panels on a page that somebody may see, in their order."""
        on = [
            part
            for part in self.panels.values()
            if isinstance(part.shown, Panel) and part.shown.on == path and may(principal, part.shown.rule)
        ]
        return sorted(on, key=lambda part: (part.shown.order, part.name))

    def part(self, name: str) -> Part | None:
        """A page or a panel by its name."""
        return self.pages.get(name) or self.panels.get(name)

    def navigation(self, principal: Principal) -> dict[str, list[Link]]:
        """The pages that somebody may see, by group."""
        pages = [part.shown for part in self.pages.values() if isinstance(part.shown, Page)]
        found: dict[str, list[Link]] = {}
        for page in sorted(pages, key=lambda page: (page.order, page.title)):
            if page.group is not None and may(principal, page.rule):
                found.setdefault(page.group, []).append(Link(page.title, page.path))
        return found

    def commands(self, principal: Principal) -> Iterator[Choice]:
        """What the palette offers to somebody, beside the pages of the navigation."""
        for command in self._commands:
            action = None if command.form is None else self._action(command.to)
            leads = action is None and not self.sees(principal, command.to)
            if may(principal, command.rule) and not leads and (action is None or may(principal, action.rule)):
                yield Choice(command.words, command.to, command.form, command.ask, command.key)

    def sees(self, principal: Principal, to: str) -> bool:
        """Whether somebody may see the page at a path, with or without a query; what is no page is not guarded."""
        path = to.partition("#")[0].partition("?")[0]
        found = self.pages.get(path)
        if found is None:
            # Words go before names in their places, as where pages are served.
            fits = [page for page in self.pages if "{" in page and _leads_to(page, path)]
            if not fits:
                return True
            found = self.pages[min(fits, key=lambda page: page.replace("{", "~"))]
        return may(principal, found.shown.rule)

    def _action(self, path: str, more: Iterable[Action] = ()) -> Action | None:
        for action in (*(action for _, action in self.actions.values()), *more):
            if _leads_to(action.path, path):
                return action
        return None

    def live(self, names: Collection[str], principal: Principal) -> Mapping[str, frozenset[str]]:
        """The hooks after whose events each of these parts is made anew; none of what somebody may not see."""
        parts = [part for name in names if (part := self.part(name)) is not None]
        return {part.name: frozenset(part.shown.live) for part in parts if may(principal, part.shown.rule)}


def _leads_to(declared: str, path: str) -> bool:
    """Whether a path is one of those that are declared by words, and names in braces."""
    return _pattern(declared).fullmatch(path) is not None


@cache
def _pattern(declared: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, re.split(r"{[^}]*}", declared))))


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise PagesError(f"the path {path!r} must be lower-case words and {{names}}, each after a slash")
    if any(path == own or path.startswith(f"{own}/") for own in OWN):
        raise PagesError(f"the path {path} is the host's own: choose another")


def _words(declared: Page | Panel | Action | Data | Command) -> str:
    if isinstance(declared, Panel):
        return f"the panel {declared.name}"
    return declared.words if isinstance(declared, Command) else declared.path
