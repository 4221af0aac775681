"""Every error that this package raises on purpose.

None of them is a ``RuntimeError``: generator workers of superqt swallow those.
A message says what was expected, what was given and what to do.
"""

from __future__ import annotations


class SlideSamError(Exception):
    """Base class of all errors raised on purpose by napari-slidesam."""


class VolumeError(SlideSamError):
    """A volume has a shape, data type, axis or content that cannot be used."""


class PromptError(SlideSamError):
    """A box, point or mask prompt is malformed, contradictory or outside the volume."""


class ConfigError(SlideSamError):
    """An option has a value outside its range."""


class FileFormatError(SlideSamError):
    """A file is unreadable, truncated, of an unknown kind, or cannot be written."""


class CheckpointError(SlideSamError):
    """A weights file is missing, corrupt, or belongs to another network."""


class DeviceError(SlideSamError):
    """The device asked for is not there."""


class InferenceError(SlideSamError):
    """The network failed while predicting."""


class SessionError(SlideSamError):
    """A session folder is incomplete or foreign, or an operation on it is not possible."""


class EvaluationError(SlideSamError):
    """A labelled volume or a protocol cannot be evaluated."""


class TuningError(SlideSamError):
    """Training data or training settings cannot be used."""
