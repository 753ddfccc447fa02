#!/usr/bin/env python3
"""Writes dashboards/ and, in Chinese, dashboards-zh/. `--check` writes nothing and fails where one is not what would be written.

Numbers of the guard's configuration stand in no dashboard: marks come from the metrics that export them.
"""

import json
import pathlib
import sys

from source.chinese import translated
from source.fleet import fleet
from source.node import node
from source.orphans import orphans


def main():
    """Writes, or checks, each dashboard."""
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit("usage: generate.py [--check]")
    home = pathlib.Path(__file__).resolve().parent
    made = [("dashboards", one) for one in (fleet(), node(), orphans())]
    made += [("dashboards-zh", translated(one)) for _, one in made]
    written = {
        home / folder / f"{one['uid']}.json": json.dumps(one, indent=2, ensure_ascii=False) + "\n"
        for folder, one in made
    }
    there = {
        path: path.read_text() for folder in {folder for folder, _ in made} for path in (home / folder).glob("*.json")
    }
    stale = sorted(path.name for path in there.keys() | written.keys() if there.get(path) != written.get(path))
    if check:
        sys.exit(f"not as generate.py writes it: {', '.join(stale)}" if stale else 0)
    for path, text in written.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
