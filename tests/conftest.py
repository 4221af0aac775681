"""What all tests share: nothing of the user's is touched."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

_SCRATCH = tempfile.TemporaryDirectory(prefix="napari-slidesam-tests-")
# Before napari is imported: its settings, and matplotlib's, are of the tests alone.
os.environ.setdefault("NAPARI_CONFIG", str(Path(_SCRATCH.name) / "napari-settings.yaml"))
os.environ.setdefault("MPLCONFIGDIR", str(Path(_SCRATCH.name) / "matplotlib"))

# With OpenGL in software, Mesa and triton (a part of PyTorch's CUDA build) each bring an LLVM of
# their own: the process dies when triton is imported after the first window, not before it.
with suppress(ImportError):
    import triton  # noqa: F401
