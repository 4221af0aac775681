"""Two copies of one compiler in a process: PyTorch's and that of OpenGL.

OpenGL in software, and some drivers, bring LLVM as a library. PyTorch's compiler, triton, brings
another one of its own. Loaded after a window was opened, it ends the process without a word. The
networks here need no triton, so it is left out where OpenGL was first.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

logger = logging.getLogger(__name__)

COMPILER = "triton"
LIBRARY = "libLLVM"
LOADED = Path("/proc/self/maps")
"""Lists the libraries of this process; on Linux, the only system with both compilers."""


def leave_compiler_out() -> bool:
    """Let imports go on without triton where it would end the process.

    Call it before anything that imports PyTorch, or parts of it that were not imported yet.

    Returns
    -------
    bool
        Whether triton cannot be imported any more: it looks as if it were not installed.
    """
    if COMPILER in sys.modules:
        return sys.modules[COMPILER] is None
    try:
        is_loaded = LIBRARY in LOADED.read_text(errors="replace")
    except OSError:
        return False
    if is_loaded:
        logger.info("OpenGL has loaded LLVM: PyTorch goes without its compiler.")
        sys.modules[COMPILER] = None  # type: ignore[assignment]
    return is_loaded
