"""Defaults of propagation that training follows, see `napari_slidesam.engine.config`."""

OPENING_RADIUS_PX = 1
BOX_MARGIN = 0.05
CARRIED_CONFIDENCE = 0.4
CONSISTENCY_WEIGHT = 0.5
BOX_WEIGHT = 1.0
CANDIDATE_SHARPNESS = 6.0

MAX_GROWTH = 3.0
"""The box margin is multiplied by the slice distance in pixels, up to this."""
