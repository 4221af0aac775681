"""One box on one slice of a volume, and the mask of the whole object, slice by slice.

The method is Slide-SAM (Quan et al., MIDL 2024): a promptable network on a sliding window of
three slices. This package imports neither torch nor napari until they are needed.
"""

from __future__ import annotations

__version__ = "0.1.0"
