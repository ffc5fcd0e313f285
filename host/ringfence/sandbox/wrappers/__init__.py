"""A sandbox's room as a value (`room`), and the wrappers that can make one: each says it in arguments of its own.

What a plan's room holds is decided in `furnish`, once for every wrapper.
"""
