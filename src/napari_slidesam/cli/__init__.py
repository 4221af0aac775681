"""The command line: ``napari-slidesam`` and ``python -m napari_slidesam``.

Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line with the arguments of the process; ends the process."""
    from napari_slidesam.cli.app import app

    app(prog_name="napari-slidesam")
