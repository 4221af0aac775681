"""A coarse look in 3D: where in the volume the object lies, from one slice's mask."""
