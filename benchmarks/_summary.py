"""One table over the last results of all benchmarks; `make bench` ends with it."""

import json
from typing import Any

from _common import RESULTS, table


def _line(name: str, machine: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What was measured, and its figures."""
    words = [str(v) for v in row.values() if isinstance(v, str)]
    figures = [f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads"
    return {
        "benchmark": name,
        "what": ", ".join(words),
        "figures": ", ".join(figures),
        "on": f"{where}, {machine['date']}",
    }


def main() -> None:
    """Print it."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        rows += [_line(path.stem, result["machine"], row) for row in result["rows"]]
    table(rows)


if __name__ == "__main__":
    main()
