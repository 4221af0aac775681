"""``python -m napari_slidesam`` is the command line."""

from __future__ import annotations

from napari_slidesam.cli import main

if __name__ == "__main__":
    main()
