"""Views that are drawn once and seen again and again, for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

View = TypeVar("View")


class KeptViews(Generic[View]):
    """The last views of an endless numbered row, kept in memory.

    One that is asked for and is not kept is drawn again, so that what is asked for never depends
    on what was asked for before.

    Parameters
    ----------
    draw : callable
        Draws a view by its number; always the same one.
    room : int
        How many are kept; a newer one takes the place of the oldest.
    """

    def __init__(self, draw: Callable[[int], View], room: int) -> None:
        self._draw, self._room = draw, room
        self._kept: dict[int, tuple[int, View]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, numbers: Sequence[int]) -> list[View]:
        """Return views by their numbers."""
        return [self._view(int(n)) for n in numbers]

    def _view(self, number: int) -> View:
        place = number % self._room
        kept = self._kept.get(place)
        if kept is None or kept[0] != number:
            kept = self._kept[place] = number, self._draw(number)
        return kept[1]
