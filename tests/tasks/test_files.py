"""Data files: where they are looked for, and what is said of one that is wrong."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from glassgrok.tasks import files

CONTENT = bytes(range(256)) * 10


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind a server on this machine, an empty cache, and no folder of data."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(files, "user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def packed(*urls) -> files.DataFile:
    digest = "md5:" + hashlib.md5(CONTENT).hexdigest()
    return files.DataFile(len(CONTENT), digest, urls, "numbers", unpacked=True)


def test_another_wrapper_of_the_same_contents_will_do(tmp_path, monkeypatch):
    monkeypatch.setitem(files.FILES, "a.gz", packed())
    for level in (1, 9):
        (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT, level))
        assert files.read("a.gz", tmp_path) == CONTENT


def test_the_folder_of_the_variable_and_one_that_is_given(tmp_path, monkeypatch):
    plain = files.DataFile(2560, "sha256:" + hashlib.sha256(CONTENT).hexdigest(), (), "numbers")
    monkeypatch.setitem(files.FILES, "a.csv", plain)
    (tmp_path / "a.csv").write_bytes(CONTENT)
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    assert files.read("a.csv") == CONTENT
    with pytest.raises(ValueError, match=r"which --data names, has no file a\.csv: numbers\. Put"):
        files.read("a.csv", tmp_path / "other")
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "other"))
    with pytest.raises(ValueError, match="which --data or GLASSGROK_DATA names"):
        files.read("a.csv")
    with pytest.raises(ValueError, match=r"no data file 'b.csv'; choose one of: train-images"):
        files.read("b.csv")


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    path, whole = tmp_path / "a.gz", gzip.compress(CONTENT)
    monkeypatch.setitem(files.FILES, "a.gz", packed())
    for broken in (whole[: len(whole) // 2], b"not gzip", whole[:-6]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"truncated, or no gzip file: its {len(broken)} b"):
            files.read("a.gz", tmp_path)
    path.write_bytes(gzip.compress(CONTENT[:-1]))
    wrong = r"unpacked contents are 2,559 bytes with the md5 \w{32}, but 2,560 bytes with \w{32} w"
    with pytest.raises(ValueError, match=wrong):
        files.read("a.gz", tmp_path)


def test_a_download_is_checked_and_kept(served, tmp_path, monkeypatch):
    folder, url = served
    monkeypatch.setitem(files.FILES, "a.gz", packed(url + "missing.gz", url + "bad.gz", url + "a"))
    (folder / "bad.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(ValueError, match=r"missing\.gz: HTTPError; .*bad\.gz: .* 5 bytes .* --d"):
        files.read("a.gz")
    assert not list((tmp_path / "cache").rglob("*.*"))
    (folder / "a").write_bytes(gzip.compress(CONTENT))
    assert files.read("a.gz") == CONTENT
    (folder / "a").unlink()
    files.read("a.gz")  # not fetched again
    assert (tmp_path / "cache" / "data" / "a.gz").is_file()
    (tmp_path / "cache" / "data" / "a.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="remove it, and it is downloaded again"):
        files.read("a.gz")


def test_a_file_without_a_source_has_to_be_put_somewhere(served):
    with pytest.raises(ValueError, match=r"is not here: the labelled IMDb reviews .* GLASSGROK_D"):
        files.read("aclImdb_50k.tsv.gz")
