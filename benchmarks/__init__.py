"""Benchmarks: importable functions that return figures; ``python -m benchmarks`` runs them.

A module ``benchmarks/bench_*.py`` holds functions ``bench_*() -> dict[str, float]``. Units stand
in the keys (``seconds``, ``megabytes``); what is compared is measured in one run and given as a
ratio.
"""
