import functools
import hashlib
import http.server
import threading

import pytest

from secateur.lab.data import LabError, MissingDataError, load, locate
from secateur.lab.data.locate import Source, find, folders

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_files_are_found_beside_or_below(tmp_path):
    below = tmp_path / "toy"
    below.mkdir()
    layouts = {"plain": {"images": ["i.gz", "i"], "labels": ["l"]}}
    for file in ("i", "l"):
        (tmp_path / file).touch()
    assert find("toy", [below, tmp_path], layouts)[1] == {"images": tmp_path / "i", "labels": tmp_path / "l"}
    for file in ("i", "i.gz", "l"):
        (below / file).touch()
    assert find("toy", [below, tmp_path], layouts)[1]["images"] == below / "i.gz"


def test_a_whole_layout_wins_over_half_of_a_better_one(tmp_path):
    layouts = {"better": {"a": ["a"], "b": ["b"]}, "other": {"c": ["c"]}}
    for file in ("a", "c"):
        (tmp_path / file).touch()
    assert find("toy", [tmp_path], layouts)[0] == "other"


def test_folders_are_not_files(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(MissingDataError):
        find("toy", [tmp_path], {"only": {"a": ["a"]}})


@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10"])
def test_a_folder_without_the_files_is_an_error_and_no_download(tmp_path, monkeypatch, by_environment, name):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("downloaded"))
    if by_environment:
        monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    with pytest.raises(MissingDataError) as caught:
        load(name, None if by_environment else tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert locate.SOURCES[name][0].file in str(caught.value)


def test_the_file_that_is_missing_is_named(tmp_path):
    for source in locate.SOURCES["mnist"][:3]:
        (tmp_path / source.file).touch()
    with pytest.raises(MissingDataError, match=r"t10k-labels-idx1-ubyte\.gz is not in"):
        load("mnist", tmp_path)


def test_a_folder_that_does_not_exist_is_named_with_who_named_it(tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match=r"data_dir is .*nowhere"):
        folders("mnist", tmp_path / "nowhere")
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match=r"SECATEUR_DATA is .*nowhere"):
        folders("mnist", None)


def test_the_error_is_a_lab_error_and_a_missing_file():
    assert issubclass(MissingDataError, LabError)
    assert issubclass(MissingDataError, FileNotFoundError)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder served on this machine, and its address; downloads go into an empty cache."""
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    folder = tmp_path / "web"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_a_download_falls_back_to_the_next_mirror_and_is_kept(web, monkeypatch):
    served, address = web
    (served / "good").mkdir()
    (served / "bad").mkdir()
    (served / "good" / "a.bin").write_bytes(b"right")
    (served / "bad" / "a.bin").write_bytes(b"wrong")
    mirrors = (f"{address}none/", f"{address}bad/", f"{address}good/")
    digest = hashlib.md5(b"right").hexdigest()
    monkeypatch.setitem(locate.SOURCES, "mnist", (Source("a.bin", digest, mirrors),))
    (folder,) = folders("mnist", None)
    assert [path.name for path in folder.iterdir()] == ["a.bin"]
    assert (folder / "a.bin").read_bytes() == b"right"
    (served / "good" / "a.bin").unlink()  # from now on only the kept copy can serve
    assert folders("mnist", None) == [folder]


def test_a_failed_download_says_what_to_do(web, monkeypatch):
    served, address = web
    (served / "a.bin").write_bytes(b"wrong")
    monkeypatch.setitem(locate.SOURCES, "mnist", (Source("a.bin", "0" * 32, (address,)),))
    with pytest.raises(MissingDataError) as caught:
        load("mnist")
    for part in (f"{address}a.bin", "--data-dir", "SECATEUR_DATA"):
        assert part in str(caught.value)


def test_no_network_says_what_to_do(monkeypatch):
    pooch = pytest.importorskip("pooch")

    def unreachable(*_, **__):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(pooch, "retrieve", unreachable)
    with pytest.raises(MissingDataError, match=r"cifar-10-binary\.tar\.gz \(name resolution failed\).*--data-dir"):
        load("cifar-10")
