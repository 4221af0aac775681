"""Prediction of one window, propagation through a volume, and the session that keeps results."""
