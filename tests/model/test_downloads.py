"""Downloads from a real server on this machine, which behaves as badly as servers do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pooch
import pytest

from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.catalogue import EMBEDDED, KNOWN_MODELS, KnownModel, ModelKind
from napari_slidesam.model.digests import record_path
from napari_slidesam.model.downloads import download_model, take_model_file
from napari_slidesam.model.library import ModelLibrary, partial_paths
from napari_slidesam.model.transfer import (
    CHUNK_BYTES,
    DownloadProgress,
    DownloadStage,
    ResumingDownloader,
    RetryPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = np.random.default_rng(0).integers(0, 256, 6 * CHUNK_BYTES + 1000, np.uint8).tobytes()
OTHER = CONTENT[::-1]
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, connect_timeout_s=5, read_timeout_s=5)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Served:
    """What the server gives, and what it was asked for.

    Each answer takes the next of ``cuts``: it ends after so many bytes; of ``statuses``: an error
    instead of the file. ``gate`` is waited for in the middle of each answer. ``shift`` is how far
    from the start asked for the next range begins.
    """

    content: bytes = CONTENT
    has_ranges: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    content_type: str = "application/octet-stream"
    length: int | None = None
    is_chunked: bool = False
    shift: int = 0
    cuts: deque[int] = field(default_factory=deque)
    statuses: deque[int] = field(default_factory=deque)
    gate: threading.Event | None = None
    reached_gate: threading.Event = field(default_factory=threading.Event)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str | None]:
        return [r.get("Range") for r in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        served = self.served
        served.requests.append(dict(self.headers.items()))
        if self.path == "/moved":
            self._head(302, {"Location": f"{served.url}/weights.pth", "Content-Length": "0"})
            return
        if self.path != "/weights.pth":
            self._head(404, {"Content-Length": "0"})
            return
        if served.statuses:
            self._head(served.statuses.popleft(), {"Content-Length": "0"})
            return
        self._file(served)

    def _file(self, served: Served) -> None:
        size, start = len(served.content), 0
        headers = {"Content-Type": served.content_type}
        if served.etag:
            headers["ETag"] = served.etag
        if served.modified:
            headers["Last-Modified"] = served.modified
        match = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_current = self.headers.get("If-Range") in (served.etag, served.modified)
        status = 200
        if served.has_ranges and match and is_current:
            start = int(match[1])
            if start >= size:
                self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return
            start, served.shift = start + served.shift, 0
            status = 206
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        body = served.content[start:]
        if served.is_chunked:
            self._head(status, {**headers, "Transfer-Encoding": "chunked"})
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        self._head(status, {**headers, "Content-Length": str(served.length or len(body))})
        cut = served.cuts.popleft() if served.cuts else len(body)
        with suppress(OSError):  # the client may have enough
            self._body(served, body[:cut])
        if cut < len(body):
            self.close_connection = True

    def _body(self, served: Served, body: bytes) -> None:
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if served.gate is not None:
            served.reached_gate.set()
            served.gate.wait(20)
        self.wfile.write(body[half:])

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Served()
    handler = type("OneHandler", (Handler,), {"served": served})
    with Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        if served.gate is not None:
            served.gate.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def known(served: Served) -> KnownModel:
    return KnownModel(
        name="net",
        title="Net",
        kind=ModelKind.SAM,
        file_name="weights.pth",
        licence="MIT",
        page="https://example.org/net",
        url=f"{served.url}/weights.pth",
        size_bytes=len(CONTENT),
        sha256=sha256(CONTENT),
    )


@pytest.fixture
def library(tmp_path: Path, known: KnownModel) -> ModelLibrary:
    return library_of(tmp_path, known)


def library_of(tmp_path: Path, known: KnownModel) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models", tmp_path / "models.json", (KNOWN_MODELS[0], known))


def run(library: ModelLibrary, policy: RetryPolicy = QUICK) -> list[DownloadProgress]:
    return list(download_model("net", library, policy=policy))


def names(library: ModelLibrary) -> set[str]:
    return {p.name for p in library.folder.iterdir()} - {".weights.pth.lock"}


class TestWhole:
    def test_it_comes_with_progress(self, library: ModelLibrary, served: Served) -> None:
        steps = run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert steps[0].stage is DownloadStage.CONNECTING
        assert [s.stage for s in steps][-2:] == [DownloadStage.VERIFYING, DownloadStage.DONE]
        received = [s.received_bytes for s in steps]
        assert received == sorted(received)
        assert len(set(received)) > 5
        assert {s.total_bytes for s in steps} == {len(CONTENT)}
        assert names(library) == {"weights.pth"}
        assert served.requests[0]["Accept-Encoding"] == "identity"

    def test_what_is_here_is_not_fetched(self, library: ModelLibrary, served: Served) -> None:
        run(library)
        steps = run(library)
        assert len(served.requests) == 1
        assert [s.stage for s in steps] == [DownloadStage.VERIFYING, DownloadStage.DONE]

    def test_what_is_here_but_damaged_is_fetched_again(
        self, library: ModelLibrary, served: Served
    ) -> None:
        run(library)
        library.resolve("net").write_bytes(OTHER)
        run(library)
        assert len(served.requests) == 2
        assert library.resolve("net").read_bytes() == CONTENT

    def test_redirect(self, tmp_path: Path, known: KnownModel, served: Served) -> None:
        library = library_of(tmp_path, replace(known, url=f"{served.url}/moved"))
        served.cuts.append(len(CONTENT) // 2)
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert len(served.requests) == 4

    def test_no_length_told(self, tmp_path: Path, known: KnownModel, served: Served) -> None:
        served.is_chunked = True
        library = library_of(tmp_path, replace(known, size_bytes=None))
        steps = run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert steps[1].total_bytes is None

    def test_the_shipped_one_is_here(self, library: ModelLibrary) -> None:
        (only,) = download_model(EMBEDDED, library)
        assert only.stage is DownloadStage.DONE
        assert not library.folder.exists()

    def test_pooch_alone_can_use_the_downloader(
        self, tmp_path: Path, known: KnownModel, served: Served
    ) -> None:
        served.cuts.append(300_000)
        downloader = ResumingDownloader(tmp_path / "p.partial", policy=QUICK)
        pooch.get_logger().setLevel("WARNING")
        path = pooch.retrieve(known.url, known.sha256, "w.pth", tmp_path, downloader=downloader)
        assert Path(path).read_bytes() == CONTENT
        assert {p.name for p in tmp_path.iterdir()} == {"w.pth"}


class TestInterrupted:
    def test_it_goes_on_where_the_server_hung_up(
        self, library: ModelLibrary, served: Served
    ) -> None:
        served.cuts.extend([3 * CHUNK_BYTES + 5, 2 * CHUNK_BYTES])
        steps = run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        first, second, third = served.asked_ranges
        assert first is None
        starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in (second or "", third or "")]
        assert 3 * CHUNK_BYTES <= starts[0] < starts[1]
        assert served.requests[1]["If-Range"] == '"one"'
        waits = [s for s in steps if s.stage is DownloadStage.WAITING]
        assert waits
        assert "connection" in waits[0].message

    def test_it_goes_on_after_it_was_stopped(self, library: ModelLibrary, served: Served) -> None:
        with closing(download_model("net", library, policy=QUICK)) as steps:
            for step in steps:
                if step.received_bytes >= 2 * CHUNK_BYTES:
                    break
        assert names(library) == {"weights.pth.partial", "weights.pth.partial.json"}
        assert run(library)[0].received_bytes >= 2 * CHUNK_BYTES
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges == [None, f"bytes={2 * CHUNK_BYTES}-"]

    def test_by_date_where_there_is_no_strong_tag(
        self, library: ModelLibrary, served: Served
    ) -> None:
        served.etag, served.modified = 'W/"one"', "Mon, 01 Apr 2024 10:00:00 GMT"
        served.cuts.append(3 * CHUNK_BYTES)
        run(library)
        assert served.requests[1]["If-Range"] == "Mon, 01 Apr 2024 10:00:00 GMT"
        assert library.resolve("net").read_bytes() == CONTENT

    @pytest.mark.parametrize("what", ["no ranges", "no version"])
    def test_anew_where_it_cannot_go_on(
        self, library: ModelLibrary, served: Served, what: str
    ) -> None:
        served.has_ranges = what != "no ranges"
        served.etag = '"one"' if what == "no ranges" else None
        served.cuts.append(3 * CHUNK_BYTES)
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert (served.asked_ranges[1] is None) == (what == "no version")

    def test_anew_where_the_file_has_changed(
        self, tmp_path: Path, known: KnownModel, served: Served
    ) -> None:
        library = library_of(tmp_path, replace(known, sha256=sha256(OTHER)))
        with closing(download_model("net", library, policy=QUICK)) as steps:
            for step in steps:
                if step.received_bytes >= 2 * CHUNK_BYTES:
                    break
        served.content, served.etag = OTHER, '"two"'
        run(library)
        assert library.resolve("net").read_bytes() == OTHER

    def test_all_had_come_already(self, library: ModelLibrary, served: Served) -> None:
        partial, version = partial_paths(library.folder / "weights.pth")
        library.folder.mkdir()
        partial.write_bytes(CONTENT)
        version.write_text(json.dumps({"url": f"{served.url}/weights.pth", "validator": '"one"'}))
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges == [f"bytes={len(CONTENT)}-"]

    def test_more_had_come_than_there_is(self, library: ModelLibrary, served: Served) -> None:
        partial, version = partial_paths(library.folder / "weights.pth")
        library.folder.mkdir()
        partial.write_bytes(CONTENT + b"x")
        version.write_text(json.dumps({"url": f"{served.url}/weights.pth", "validator": '"one"'}))
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT

    def test_partial_bytes_of_unknown_origin_are_not_used(
        self, library: ModelLibrary, served: Served
    ) -> None:
        partial, version = partial_paths(library.folder / "weights.pth")
        library.folder.mkdir()
        partial.write_bytes(OTHER[:1000])
        version.write_text("{")
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges == [None]

    def test_bytes_of_another_address_are_not_used(
        self, library: ModelLibrary, served: Served
    ) -> None:
        partial, version = partial_paths(library.folder / "weights.pth")
        library.folder.mkdir()
        partial.write_bytes(OTHER[:1000])
        version.write_text(json.dumps({"url": f"{served.url}/old.pth", "validator": '"one"'}))
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges == [None]

    def test_anew_where_the_server_sends_another_part(
        self, library: ModelLibrary, served: Served
    ) -> None:
        served.cuts.append(3 * CHUNK_BYTES)
        served.shift = 7
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges[0] is None
        assert served.asked_ranges[1] is not None
        assert served.asked_ranges[2:] == [None]

    def test_as_often_as_it_takes_while_something_comes(
        self, library: ModelLibrary, served: Served
    ) -> None:
        served.cuts.extend([CHUNK_BYTES] * (QUICK.attempts + 1))
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert len(served.requests) == QUICK.attempts + 2

    def test_a_server_in_trouble_is_asked_again(
        self, library: ModelLibrary, served: Served
    ) -> None:
        served.statuses.extend([503, 429])
        steps = run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert any("503" in s.message for s in steps)


class TestFails:
    def test_truncated_again_and_again(self, library: ModelLibrary, served: Served) -> None:
        served.has_ranges = False
        served.cuts.extend([2 * CHUNK_BYTES] * 9)
        with pytest.raises(CheckpointError, match=r"lost.*kept.*put it at .*weights\.pth"):
            run(library)
        assert len(served.requests) == QUICK.attempts
        assert "weights.pth" not in names(library)
        served.cuts.clear()
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT

    def test_a_truncated_file_on_the_server(self, library: ModelLibrary, served: Served) -> None:
        served.content = CONTENT[:-7]
        with pytest.raises(CheckpointError, match=f"{len(CONTENT) - 7} bytes; expected"):
            run(library)
        assert names(library) == set()

    def test_a_truncated_file_of_untold_length(self, library: ModelLibrary, served: Served) -> None:
        served.is_chunked, served.content = True, CONTENT[:-7]
        with pytest.raises(CheckpointError, match=f"{len(CONTENT) - 7} bytes; expected"):
            run(library)
        assert "weights.pth" not in names(library)

    @pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
    def test_wrong_checksum(
        self, tmp_path: Path, known: KnownModel, served: Served, size_bytes: int | None
    ) -> None:
        served.content = OTHER
        library = library_of(tmp_path, replace(known, size_bytes=size_bytes))
        with pytest.raises(CheckpointError, match=f"is not the file.*{sha256(OTHER)}"):
            run(library)
        assert names(library) == set()
        served.content = CONTENT
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT

    def test_not_there(self, tmp_path: Path, known: KnownModel, served: Served) -> None:
        library = library_of(tmp_path, replace(known, url=f"{served.url}/gone.pth"))
        with pytest.raises(CheckpointError, match=r"404 Not Found.*example\.org.*put it at"):
            run(library)
        assert len(served.requests) == 1

    def test_a_page_instead_of_a_file(
        self, tmp_path: Path, known: KnownModel, served: Served
    ) -> None:
        served.content_type = "text/html; charset=utf-8"
        library = library_of(tmp_path, replace(known, size_bytes=None, sha256=None))
        with pytest.raises(CheckpointError, match="gives a web page"):
            run(library)

    def test_nobody_answers(self, tmp_path: Path, known: KnownModel) -> None:
        with Server(("127.0.0.1", 0), Handler) as server:
            port = server.server_address[1]
        library = library_of(tmp_path, replace(known, url=f"http://127.0.0.1:{port}/w.pth"))
        with pytest.raises(CheckpointError) as caught:
            run(library)
        message = str(caught.value)
        assert "cannot be reached" in message
        assert f"put it at {library.folder / 'weights.pth'}" in message
        assert "https://example.org/net" in message

    def test_no_such_protocol(self, tmp_path: Path, known: KnownModel) -> None:
        library = library_of(tmp_path, replace(known, url="gopher://127.0.0.1/w.pth"))
        with pytest.raises(CheckpointError, match="cannot be downloaded"):
            run(library)

    def test_too_little_space(self, tmp_path: Path, known: KnownModel, served: Served) -> None:
        served.length = 10**17
        library = library_of(tmp_path, replace(known, size_bytes=10**17))
        with pytest.raises(CheckpointError, match=r"GB free, the download needs 100000000\.1 GB"):
            run(library)

    if sys.platform != "win32":

        def test_the_disk_fills_up(self, library: ModelLibrary, served: Served) -> None:
            """A limit on the size of files stands for the full disk."""
            import resource

            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 * CHUNK_BYTES, limits[1]))
            try:
                with pytest.raises(CheckpointError, match=r"cannot be written.*is kept"):
                    run(library)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            run(library)
            assert library.resolve("net").read_bytes() == CONTENT
            assert served.asked_ranges == [None, f"bytes={3 * CHUNK_BYTES}-"]

    def test_a_folder_that_cannot_be(self, tmp_path: Path, known: KnownModel) -> None:
        (tmp_path / "models").write_text("a file")
        with pytest.raises(CheckpointError, match="NAPARI_SLIDESAM_MODELS"):
            run(library_of(tmp_path, known))

    def test_by_hand_only(self, tmp_path: Path, known: KnownModel) -> None:
        library = library_of(tmp_path, replace(known, url=None, by_hand="ask for it"))
        with pytest.raises(CheckpointError, match=r"By hand: ask for it.*weights\.pth.*--file"):
            run(library)
        assert not library.folder.exists()

    def test_names_that_are_no_download(self, library: ModelLibrary, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no network named"):
            list(download_model("sam-xxl", library))
        (tmp_path / "mine.pth").write_bytes(b"x")
        library.add("mine", tmp_path / "mine.pth")
        with pytest.raises(CheckpointError, match="your own file"):
            list(download_model("mine", library))


class TestRecorded:
    @pytest.fixture
    def library(self, tmp_path: Path, known: KnownModel) -> ModelLibrary:
        return library_of(tmp_path, replace(known, size_bytes=None, sha256=None))

    def test_at_first_then_checked(self, library: ModelLibrary, served: Served) -> None:
        run(library)
        path = library.resolve("net")
        assert json.loads(record_path(path).read_text())["sha256"] == sha256(CONTENT)
        library.remove("net")
        served.content, served.etag = OTHER, '"two"'
        with pytest.raises(CheckpointError, match=r"recorded the first time.*delete that"):
            run(library)
        assert not path.exists()
        record_path(path).unlink()
        run(library)
        assert path.read_bytes() == OTHER

    def test_a_file_put_there_by_hand(self, tmp_path: Path, known: KnownModel) -> None:
        library = library_of(tmp_path, replace(known, url=None, size_bytes=None, sha256=None))
        library.folder.mkdir()
        path = library.folder / "weights.pth"
        path.write_bytes(CONTENT)
        assert run(library)[-1].stage is DownloadStage.DONE
        path.write_bytes(OTHER)
        with pytest.raises(CheckpointError, match="is damaged"):
            run(library)
        assert path.exists()


class TestTakeFile:
    @pytest.fixture
    def fetched(self, tmp_path: Path) -> Path:
        path = tmp_path / "from-a-browser.bin"
        path.write_bytes(CONTENT)
        return path

    def test_it_is_copied(self, library: ModelLibrary, fetched: Path, served: Served) -> None:
        assert take_model_file("net", fetched, library) == library.resolve("net")
        assert library.resolve("net").read_bytes() == CONTENT
        assert fetched.exists()
        assert not served.requests
        assert names(library) == {"weights.pth"}

    def test_it_is_checked(self, library: ModelLibrary, fetched: Path) -> None:
        fetched.write_bytes(CONTENT[:-1])
        with pytest.raises(CheckpointError, match="truncated or another"):
            take_model_file("net", fetched, library)
        fetched.write_bytes(OTHER)
        with pytest.raises(CheckpointError, match="is not the file of 'net'"):
            take_model_file("net", fetched, library)
        with pytest.raises(CheckpointError, match="no weights file"):
            take_model_file("net", fetched.with_name("nowhere"), library)
        with pytest.raises(CheckpointError, match="ships with"):
            take_model_file(EMBEDDED, fetched, library)
        assert not library.folder.exists()

    def test_it_is_recorded(self, tmp_path: Path, known: KnownModel, fetched: Path) -> None:
        library = library_of(tmp_path, replace(known, url=None, size_bytes=None, sha256=None))
        path = take_model_file("net", fetched, library)
        assert json.loads(record_path(path).read_text())["size_bytes"] == len(CONTENT)


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from napari_slidesam.model.catalogue import KNOWN_MODELS
from napari_slidesam.model.downloads import download_model
from napari_slidesam.model.library import ModelLibrary
folder, url, size, sha256 = sys.argv[1:]
known = replace(KNOWN_MODELS[1], name="net", file_name="weights.pth", url=url,
                size_bytes=int(size), sha256=sha256)
library = ModelLibrary(Path(folder), Path(folder) / "models.json", (known,))
stages = [step.stage for step in download_model("net", library)]
print(stages[0], stages[-1])
"""


def start_process(library: ModelLibrary, known: KnownModel) -> subprocess.Popen[str]:
    arguments = [str(library.folder), known.url, str(known.size_bytes), known.sha256]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )


class TestProcesses:
    def test_two_at_once_make_one_download(
        self, library: ModelLibrary, known: KnownModel, served: Served
    ) -> None:
        served.gate = threading.Event()
        first = start_process(library, known)
        assert served.reached_gate.wait(20)
        second = start_process(library, known)
        waiting = download_model("net", library, policy=QUICK)
        assert next(waiting).stage is DownloadStage.WAITING
        waiting.close()
        served.gate.set()
        outputs = [p.communicate(timeout=30) for p in (first, second)]
        assert [p.returncode for p in (first, second)] == [0, 0], outputs
        assert outputs[0][0].split() == ["connecting", "done"]
        assert library.resolve("net").read_bytes() == CONTENT
        assert len(served.requests) == 1

    def test_a_killed_one_leaves_what_came_and_no_lock(
        self, library: ModelLibrary, known: KnownModel, served: Served
    ) -> None:
        served.gate = threading.Event()
        process = start_process(library, known)
        assert served.reached_gate.wait(20)
        partial, _ = partial_paths(library.folder / "weights.pth")
        wait_until(lambda: partial.exists() and partial.stat().st_size >= CHUNK_BYTES)
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.communicate(timeout=10)
        served.gate.set()
        run(library)
        assert library.resolve("net").read_bytes() == CONTENT
        assert served.asked_ranges[0] is None
        assert served.asked_ranges[1] is not None


def wait_until(is_so: Any) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if is_so():
            return
        pause.wait(0.02)
    pytest.fail("it never came")
