"""Starts the spawner: the program of a small process, see `spawning`.

Run by its path, by an interpreter that knows no packages (`-I -S`). What it imports is found beside it, and not by the
name that it has for the host: that would import the host.
"""

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    importlib.import_module("spawning.main").main()
