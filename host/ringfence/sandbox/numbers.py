"""The numbers of the descriptors that a sandbox is started with: the one table of them.

0 is `/dev/null`, 1 and 2 are the output. What comes from `FIRST_PRIVATE` on, the wrapper consumes and closes before the
command runs.
"""

from __future__ import annotations

PAYLOAD = 3
"""A memory file: the script, its context, its environment."""

CHANNEL = 4
"""A socket: "go" comes in, "started" and the value go out."""

BOOTSTRAP = 5
"""The trusted program that waits for "go". It closes `PAYLOAD` to `BOOTSTRAP` for the script's children."""

RULES = 6
"""The text of the packet filter, for the gate, which closes it."""

WRAPPER = 7
"""The wrapper's own program, where something is prepared before it."""

LIBRARIES = (8, 9)
"""The libraries that a bundled wrapper brings. It would find them from its own path, which may be out of the child's
reach, as it is itself; so both come by descriptor."""

CONFINER, CONFINEMENT = 6, 7
"""The program that confines a child without a wrapper, and what it is to confine it to."""

LATCH = 10
"""What a wrapper that waits for its spawner reads to its end before it does anything, and closes."""

FIRST_PRIVATE = 11
