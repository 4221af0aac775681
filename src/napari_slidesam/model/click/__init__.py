"""A look at a slice around a click: how large the object is that was meant."""
