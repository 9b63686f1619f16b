"""In a Python without torch: the package, the kernels and packed files work, and what needs torch says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import secateur as sc
from secateur import native

REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
import secateur as sc
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", REFUSING + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


MODULES = ["vocabulary", "files", "native"]
MODULES += [f"pack.{name}" for name in ("records", "streams", "positions", "values", "container", "reading")]
MODULES += ["pack.writing", "pack.arrays"]


@pytest.mark.parametrize("module", MODULES)
def test_modules_that_an_engine_needs(module: str) -> None:
    assert run(f"import secateur.{module}; print('torch' in sys.modules)") == "False\n"


def test_names_that_need_no_torch() -> None:
    assert run("print(sc.Packed.__name__, sc.read_index.__name__, sc.Weights.__name__, sc.vocabulary.__name__)") == (
        "Packed read_index NamedTensors secateur.vocabulary\n"
    )


@pytest.mark.parametrize("name", ["prune", "shrink", "pack", "measure", "criteria", "Masks", "masks"])
@pytest.mark.parametrize("code", ["sc.{}", "from secateur import {}", "sc.{0}; sc.{0}"])
def test_names_that_need_it_say_what_to_install(name: str, code: str) -> None:
    told = run(f"""
for _ in range(2):
    try:
        {code.format(name)}
    except ImportError as error:
        print(error.name, type(error).__name__, error)
""")
    text = f"torch MissingExtraError secateur.{name} needs torch, which is not installed here: `pip install secateur` "
    assert told == f"{text}brings it\n" * 2


def test_what_was_packed_with_torch_is_read_without(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    tied = torch.eye(30)
    sc.pack({"a": tied, "b": tied, "c": torch.arange(5)}, path, metadata={"by": "me"})
    code = f"""
from secateur.pack.arrays import load_arrays
arrays, notes = load_arrays({str(path)!r})
assert arrays["a"] is arrays["b"] and arrays["a"].dtype == "float32" and notes == {{}}
print(arrays["a"].sum(), arrays["c"].tolist(), sc.read_index({str(path)!r}).metadata)
"""
    assert run(code) == "30.0 [0, 1, 2, 3, 4] {'by': 'me'}\n"


def test_what_was_written_without_torch_is_unpacked_with(tmp_path: Path) -> None:
    path = tmp_path / "x.sct"
    run(f"""
import numpy as np
from secateur.pack.arrays import write_arrays
write_arrays({str(path)!r}, {{"w": np.eye(30, dtype="f4"), "k": np.arange(5)}}, notes={{"plan": "w"}})
""")
    tensors = sc.unpack(path)
    assert torch.equal(tensors["w"], torch.eye(30)) and torch.equal(tensors["k"], torch.arange(5))


@pytest.mark.skipif(not native.available(), reason=str(native.why_not()))
def test_the_kernels_take_arrays() -> None:
    code = """
import numpy as np
from secateur import native
values = np.arange(1, 11, dtype=np.float32)
native.load().clear([values], [np.packbits(np.arange(10) % 2 == 0)], 1)
print(values.tolist())
"""
    assert run(code).strip() == str(np.where(np.arange(10) % 2 == 0, np.arange(1.0, 11.0), 0.0).tolist())
