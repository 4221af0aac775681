"""The paper's network: segment-anything's parts, widened to windows of three slices."""
