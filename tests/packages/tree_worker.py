"""A process that makes, pins, swaps and collects trees, for tests that kill it at any moment.

python -m tests.packages.tree_worker once BLOBS HERE LOCK…     makes the trees, pins the last one, and waits
python -m tests.packages.tree_worker churn BLOBS HERE LOCK…    does all of it for ever, in an order of its own
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.trees import Trees, tree_key

from tests.packages.machines import DEBIAN


def main() -> None:
    what, blobs, here, *files = sys.argv[1:]
    trees = Trees(Path(here), BlobDirectory(Path(blobs)))
    locks = [Lock.model_validate_json(Path(file).read_text()) for file in files]
    if what == "once":
        for lock in locks:
            trees.make(lock, DEBIAN)
        pin = trees.pin(locks[-1].hash, DEBIAN)
        print("pinned" if pin else "none", flush=True)
        sys.stdin.read()
        return
    print("begun", flush=True)
    while True:
        lock = random.choice(locks)
        trees.make(lock, DEBIAN)
        pin = trees.pin(lock.hash, DEBIAN)
        wanted = [tree_key(random.choice(locks).hash, DEBIAN)]
        trees.collect(wanted, 0)
        if pin is not None:
            names = sorted(str(path.relative_to(pin.path)) for path in pin.path.rglob("*.py"))
            count = len(locks) * 10 + locks.index(lock)
            if len(names) != count:
                print(f"wrong: {len(names)} of {count}", flush=True)
            pin.close()


if __name__ == "__main__":
    main()
