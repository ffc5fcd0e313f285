"""The relay of a run's traffic: what leaves a sandbox whose network has no way out, and what comes back.

It runs in a small process of its own, which knows this package by another name. So the modules here import each other
relatively, and otherwise the standard library and `dns` (dnspython) alone.
"""
