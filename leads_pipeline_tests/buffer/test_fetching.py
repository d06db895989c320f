"""Where files come from: standard input, a real web server, a store of fsspec's; and that nothing is left behind."""

import io
import os
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from leads_pipeline.buffer.files.fetching import fetched
from leads_pipeline.errors import ImportFileError

BODY = b"email,name\n" + b"ada@example.org,Ada\n" * 200_000


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/people.csv")
            self.end_headers()
        elif path in ("/people.csv", "/short.csv"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if path == "/people.csv" else BODY[:1_000_000])
        else:
            self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def read(location: str, stdin: bytes = b"") -> tuple[bytes, str, str, list[tuple[int, int | None]]]:
    progress: list[tuple[int, int | None]] = []
    with fetched(location, stdin=io.BytesIO(stdin), on_progress=lambda done, of: progress.append((done, of))) as found:
        return found.path.read_bytes(), found.name, found.beside.name, progress


def test_standard_input_can_be_read_more_than_once_and_leaves_nothing(spools: Path) -> None:
    with fetched("-", stdin=io.BytesIO(BODY), on_progress=lambda _done, _of: None) as found:
        assert found.path.read_bytes() == found.path.read_bytes() == BODY
        assert found.path.stat().st_mode & 0o777 == 0o600
        assert (found.name, found.beside) == ("standard input", Path("stdin"))
    assert list(spools.iterdir()) == []


def test_a_pipe_of_the_shell_can_be_read_more_than_once(tmp_path: Path) -> None:
    pipe = tmp_path / "63"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(BODY,))
    writer.start()
    with fetched(str(pipe), stdin=io.BytesIO(), on_progress=lambda _done, _of: None) as found:
        assert found.path.read_bytes() == found.path.read_bytes() == BODY
        assert (found.name, found.beside) == (str(pipe), Path("63"))
    writer.join()


def test_a_path_is_itself(tmp_path: Path) -> None:
    with fetched(str(tmp_path / "a.csv"), stdin=io.BytesIO(), on_progress=lambda _done, _of: None) as found:
        assert (found.path, found.beside) == (tmp_path / "a.csv", tmp_path / "a.csv")


def test_a_web_address_is_followed_and_its_progress_told(site: str, spools: Path) -> None:
    body, name, beside, progress = read(f"{site}/moved?token=secret")
    assert body == BODY
    assert (name, beside) == (f"{site}/moved", "moved")
    assert progress[-1] == (len(BODY), len(BODY))
    assert progress == sorted(progress)
    assert list(spools.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [("/secret.csv?token=secret", "answered 403 Forbidden"), ("/short.csv", "cannot be fetched: RemoteProtocolError")],
)
def test_what_the_web_refuses_or_cuts_off_is_said_without_secrets(
    site: str, spools: Path, path: str, message: str
) -> None:
    address = f"{site.replace('http://', 'http://user:password@')}{path}"
    with pytest.raises(ImportFileError, match=message) as refusal:
        read(address)
    assert "secret.csv" in str(refusal.value) or path == "/short.csv"
    assert "token" not in str(refusal.value)
    assert "password" not in str(refusal.value)
    assert list(spools.iterdir()) == []


def test_nobody_at_an_address_is_said(spools: Path) -> None:
    with pytest.raises(ImportFileError, match="ConnectError"):
        read("http://127.0.0.1:1/people.csv")


def test_a_store_is_read_through_fsspec(spools: Path, tmp_path: Path) -> None:
    with fsspec.open("memory://bucket/people.csv", "wb") as file:
        file.write(BODY)
    body, name, beside, progress = read("memory://bucket/people.csv")
    assert (body, beside) == (BODY, "people.csv")
    assert name == "memory://bucket/people.csv"
    assert progress[-1] == (len(BODY), len(BODY))
    local = tmp_path / "local.csv"
    local.write_bytes(BODY)
    assert read(f"file://{local}")[0] == BODY


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/nothing.csv", "there is no memory://bucket/nothing.csv"),
        ("s3://bucket/people.csv", r"s3:// needs a package that is not installed: Install s3fs"),
        ("bogus://a/b", "nothing here knows how to read bogus://"),
    ],
)
def test_a_store_that_cannot_be_read_says_what_is_missing(spools: Path, address: str, message: str) -> None:
    with pytest.raises(ImportFileError, match=message):
        read(address)
    assert list(spools.iterdir()) == []


def test_an_address_within_an_address_is_named_without_its_secrets_too(spools: Path) -> None:
    with pytest.raises(ImportFileError) as refusal:
        read("simplecache::memory://user:word@bucket/nothing.csv?sig=token")
    assert str(refusal.value) == "there is no simplecache::memory://bucket/nothing.csv"
