"""What training frees is kept until it ends, and the process is then as it was."""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from secateur.lab import memory
from secateur.lab.data import Split
from secateur.lab.memory import memory_kept
from secateur.lab.training import evaluate

BIG = 4_000_000  # elements, of which glibc maps each tensor by itself


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """What is asked of a C library that is glibc."""
    found: list[tuple[int, ...]] = []

    class Libc:
        def mallopt(self, *arguments: int) -> None:
            found.append(arguments)

        def malloc_trim(self, *arguments: int) -> None:
            found.append(arguments)

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Libc())
    for name in memory.allocator_settings():
        monkeypatch.delenv(name)
    yield found


def test_what_is_freed_is_kept_and_given_back_at_the_end(calls: list[tuple[int, ...]]) -> None:
    with memory_kept():
        assert calls == [(-4, 0), (-1, -1)]
        calls.clear()
    assert calls == [*memory._USUAL.items(), (0,)]


def test_it_is_given_back_after_an_error_too(calls: list[tuple[int, ...]]) -> None:
    with pytest.raises(KeyError), memory_kept():
        raise KeyError
    assert calls[-1] == (0,)


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_who_chose_an_allocator_keeps_it(
    name: str, calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with memory_kept():
        pass
    assert not calls


def test_other_c_libraries_are_left_alone(calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with memory_kept():
        pass
    assert not calls


def test_a_model_is_evaluated_with_memory_kept(calls: list[tuple[int, ...]]) -> None:
    split = Split(torch.eye(2).reshape(2, 1, 2, 1), torch.tensor([0, 1]))
    assert evaluate(torch.nn.Flatten(), split).accuracy == 1
    assert calls


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_blocks_are_had_in_every_thread() -> None:
    """A thread's own arena holds no block of 64 MB; the main one has to give it."""
    found: list[Any] = []

    def work() -> None:
        found.append(sum(float(torch.ones(10 * BIG)[-1]) for _ in range(3)))

    with memory_kept():
        threads = [threading.Thread(target=work) for _ in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert found == [3.0, 3.0]
