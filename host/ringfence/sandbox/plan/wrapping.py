"""Whether a run gets namespaces of its own, and why it does not."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.wrapper import wrapper_of
from ringfence.sandbox.wrappers.room import Wrapper


def can_wrap(capabilities: Capabilities) -> bool:
    return (
        capabilities.is_linux
        and not isinstance(wrapper_for(capabilities), Missing)
        and capabilities.user_namespaces.available
        and capabilities.fresh_proc.available
    )


def why_not_wrapped(capabilities: Capabilities) -> str:
    if not capabilities.is_linux:
        return f"namespaces are a Linux feature, and this host is {capabilities.system}"
    for what, primitive in (
        (capabilities.wrapper_kind.value, wrapper_for(capabilities)),
        ("user namespaces", capabilities.user_namespaces),
        ("a fresh /proc", capabilities.fresh_proc),
    ):
        if isinstance(primitive, Missing):
            return f"{what}: {primitive.reason}"
    return "namespaces cannot be made"


def wrapper_for(capabilities: Capabilities) -> Wrapper | Missing:
    """What makes the rooms here, with what it needs, or why there is nothing."""
    return wrapper_of(capabilities.wrapper, capabilities.python)
