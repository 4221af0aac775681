"""What napari shows: layers, samples, docks. Nothing below imports it."""
