"""Networks that predict the masks of a window of three slices, behind one protocol."""
