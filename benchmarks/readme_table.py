"""Write the figures of benchmarks/results/accuracy.json into the README, between its accuracy marks."""

from __future__ import annotations

import json
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
START, END = "<!-- accuracy -->", "<!-- /accuracy -->"


def main() -> None:
    """Replace the table."""
    record = json.loads((REPOSITORY / "benchmarks" / "results" / "accuracy.json").read_text(encoding="utf-8"))
    columns = [f"{result['task']}, {result['encoder']}" for result in record["results"]]
    methods = [row["method"] for row in record["results"][0]["rows"]]
    lines = ["| method | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for method in methods:
        cells = []
        for result in record["results"]:
            row = next(row for row in result["rows"] if row["method"] == method)
            cells.append(f"{row['mean_ap']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    readme = REPOSITORY / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(START)
    readme.write_text(before + START + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
