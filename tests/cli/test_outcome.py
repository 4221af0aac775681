from __future__ import annotations

import signal
import threading

import pytest
import typer

from napari_slidesam.cli.outcome import cancel_on_interrupt, reported_errors
from napari_slidesam.errors import InferenceError, PromptError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PromptError("Expected a box."), 2, "Error: Expected a box."),
        (InferenceError("The network failed."), 1, "Error: The network failed."),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (MemoryError(), 1, "out of memory"),
        (KeyError("slice"), 1, "Unexpected error: KeyError"),
    ],
)
def test_every_error_is_one_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, reported_errors():
        raise error
    assert caught.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reported_errors(verbosity=2):
        raise PromptError("Expected a box.")
    assert "Traceback" in capsys.readouterr().err


def test_exits_pass_through() -> None:
    with pytest.raises(typer.Exit) as caught, reported_errors():
        raise typer.Exit(5)
    assert caught.value.exit_code == 5


def test_the_first_interrupt_cancels_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with cancel_on_interrupt() as cancel:
        signal.raise_signal(signal.SIGINT)
        assert cancel.wait(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_gets_an_event_and_no_handler() -> None:
    found = []

    def work() -> None:
        with cancel_on_interrupt() as cancel:
            found.append(cancel.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert found == [False]
