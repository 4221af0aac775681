"""Run a command on a virtual screen where there is none: a napari window needs OpenGL.

Usage: python tools/with_display.py COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SCREEN = "-screen 0 1600x1000x24"


def on_a_display(command: list[str]) -> list[str]:
    """Return the command as it must be started so that it finds a screen."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        return command
    if shutil.which("xvfb-run") is None:
        sys.exit("No display and no xvfb-run: install xvfb and xauth, or set DISPLAY.")
    return ["xvfb-run", "-a", "-s", SCREEN, *command]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(subprocess.run(on_a_display(sys.argv[1:]), check=False).returncode)
