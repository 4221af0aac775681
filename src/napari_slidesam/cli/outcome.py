"""Exit codes, and how errors reach the terminal.

0: done. 1: something failed that should not. 2: the command or its input cannot be used.
130: interrupted.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.logging import RichHandler

from napari_slidesam.errors import InferenceError, SlideSamError

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

TRACEBACK_VERBOSITY = 2
"""``-vv``: errors come with their traceback."""


def stderr_console() -> Console:
    """Return the console for progress and messages; stdout is for results."""
    return Console(stderr=True, highlight=False)


@contextmanager
def reported_errors(verbosity: int = 0) -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code.

    Parameters
    ----------
    verbosity : int
        From 2 on, tracebacks are shown too.

    Raises
    ------
    typer.Exit
        With code 2 for errors raised on purpose, 130 for an interrupt, 1 for the rest.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        _say("Interrupted.", verbosity=0)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except InferenceError as error:
        _say(f"Error: {error}", verbosity)
        raise typer.Exit(EXIT_FAILURE) from error
    except SlideSamError as error:
        _say(f"Error: {error}", verbosity)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    except MemoryError as error:
        _say(
            "Error: out of memory. Take a smaller level of the image or close programs.", verbosity
        )
        raise typer.Exit(EXIT_FAILURE) from error
    except OSError as error:
        _say(f"Error: {error}", verbosity)
        raise typer.Exit(EXIT_FAILURE) from error
    except Exception as error:
        hint = "" if verbosity >= TRACEBACK_VERBOSITY else " (-vv shows where)"
        _say(f"Unexpected error: {type(error).__name__}: {error}{hint}", verbosity)
        raise typer.Exit(EXIT_FAILURE) from error


def _say(message: str, verbosity: int) -> None:
    console = stderr_console()
    if verbosity >= TRACEBACK_VERBOSITY:
        console.print_exception()
    console.print(message, markup=False, soft_wrap=True)


def set_up_logging(verbosity: int) -> None:
    """Show the package's log on stderr: warnings, with ``-v`` progress, with ``-vv`` all."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logger = logging.getLogger("napari_slidesam")
    logger.handlers = [RichHandler(console=stderr_console(), show_path=False)]
    logger.setLevel(level)


@contextmanager
def cancel_on_interrupt() -> Iterator[threading.Event]:
    """Give an event that the first Ctrl-C sets; the second one interrupts at once.

    Where signals cannot be handled (not the main thread), the event is never set.
    """
    cancel = threading.Event()

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, previous)
