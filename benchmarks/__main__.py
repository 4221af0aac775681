"""``python -m benchmarks [NAME ...] [--out FILE]``: run benchmarks, print JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks
from benchmarks.measure import environment

if TYPE_CHECKING:
    from collections.abc import Callable


def find_benchmarks() -> dict[str, Callable[[], dict[str, float]]]:
    """Return every ``bench_*`` function of the ``bench_*`` modules by its name."""
    found = {}
    for module_info in pkgutil.iter_modules(benchmarks.__path__):
        if module_info.name.startswith("bench_"):
            module = importlib.import_module(f"benchmarks.{module_info.name}")
            found.update({k: v for k, v in vars(module).items() if k.startswith("bench_")})
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    known = find_benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; known are {', '.join(known)}")
    figures = {}
    for name in options.names or known:
        sys.stderr.write(f"{name} ...\n")
        figures[name] = {key: round(value, 4) for key, value in known[name]().items()}
    text = json.dumps({"environment": environment(), "figures": figures}, indent=2)
    sys.stdout.write(text + "\n")
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
