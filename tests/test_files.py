"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch

from secateur.files import read_json, read_tensors, write_bytes, write_json, write_tensors
from secateur.vocabulary import CorruptFileError


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", {"a": float("nan")})
    (tmp_path / "x").write_text('{"a":')
    with pytest.raises(CorruptFileError, match="cut short"):
        read_json(tmp_path / "x")


def test_tied_tensors_and_views_are_written_under_each_name(tmp_path: Path) -> None:
    one = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "t", {"a": one, "b": one, "c": one.T}, {"note": "x"})
    tensors, metadata = read_tensors(tmp_path / "t")
    assert torch.equal(tensors["a"], one) and torch.equal(tensors["b"], one) and torch.equal(tensors["c"], one.T)
    assert metadata == {"note": "x"}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"not a safetensors file at all")
    with pytest.raises(CorruptFileError, match="safetensors"):
        read_tensors(tmp_path / "t")


@pytest.mark.parametrize("call", ["mkstemp", "replace"])
def test_whatever_fails_the_old_file_stays_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr({"mkstemp": "tempfile.mkstemp", "replace": "pathlib.Path.replace"}[call], fail)
    with pytest.raises(PermissionError):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_every_truncation_of_a_tensor_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_tensors(path, {"a": torch.zeros(0, 3), "b": torch.zeros(0), "c": torch.ones(2)}, {})
    assert read_tensors(path)[0]["a"].shape == (0, 3) and read_tensors(path)[1] == {}
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptFileError, match="safetensors"):
            read_tensors(path)


def test_a_link_stays_one_and_leads_to_the_new_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("pipe", "no regular file"), ("", "is a folder"), ("none/file", "no such folder")):
        with pytest.raises(OSError, match=kind) as refused:
            write_bytes(tmp_path / name, b"new")
        assert refused.value.filename in (str(tmp_path / name), str(tmp_path / "none"))
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and len(list(tmp_path.iterdir())) == 1


def test_tensors_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    names = [f"layer{index}" for index in range(40)]
    write_tensors(tmp_path / "x", {name: torch.ones(1) for name in names}, {})
    tensors, _ = read_tensors(tmp_path / "x")
    assert list(tensors) == sorted(names)  # as safetensors writes them
