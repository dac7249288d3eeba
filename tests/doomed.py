"""`minigpt`, but process VICTIM kills itself after a save; for `test_trainflags`.

torchrun --nproc-per-node 2 tests/doomed.py VICTIM train --out RUN …
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from minigpt.cli import main


def kill_after_a_save(saved: Path) -> None:
    """As a machine would that loses its power: nothing is said, nothing put away."""
    while not saved.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    victim, *argv = sys.argv[1:]
    if os.environ["RANK"] == victim:
        saved = Path(argv[argv.index("--out") + 1], "last", "training.json")
        threading.Thread(target=kill_after_a_save, args=(saved,), daemon=True).start()
    sys.exit(main(argv))
