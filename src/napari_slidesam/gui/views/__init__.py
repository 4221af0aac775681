"""The panel's widgets: signals up, ``set_*`` down; no torch, no layers, no controller."""
