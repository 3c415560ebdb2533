"""How the processes of `compare_peers.py` take turns. Plain Python, as it runs in the peer's environment too.

A worker prepares, then waits; at each "go" on its input it does one round and tells its figures as one line of JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

SIGN = "@turn "  # libraries print to the same output


def tell(**values: Any) -> None:
    """Send figures, or the word that all is ready."""
    print(SIGN + json.dumps(values), flush=True)


def rounds() -> Iterator[None]:
    """Wait for each turn until there is none left; then tell how much memory the process took at most."""
    while sys.stdin.readline().strip() == "go":
        yield
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in kilobytes elsewhere
    tell(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


class StepClock:
    """Times the steps of a training that somebody else runs: call `tick` after each.

    Steps are told in rounds of `count`; between them the training stands still.
    """

    def __init__(self, warm_up: int, count: int) -> None:
        self.warm_up, self.count = warm_up, count
        self.times: list[float] = []
        self.last: float | None = None
        self._rounds = rounds()
        self.done = False

    def tick(self) -> bool:
        """Note that a step has ended; False when no more are wanted."""
        now = time.perf_counter()
        if self.warm_up > 0:
            self.warm_up -= 1
            if self.warm_up == 0:
                tell(ready=True)
                return self._next_round()
            return True
        if self.last is not None:
            self.times.append(now - self.last)
        self.last = now
        if len(self.times) >= self.count:
            tell(seconds=self.times)
            return self._next_round()
        return True

    def pause(self) -> None:
        """Leave out what comes before the next step, such as a validation."""
        self.last = None

    def _next_round(self) -> bool:
        self.times = []
        self.done = next(self._rounds, "end") == "end"
        self.last = time.perf_counter()
        return not self.done
