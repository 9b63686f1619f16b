"""What a user does with packed files: models in and out, masks, ties, codebooks, CSR, readers without torch."""

from __future__ import annotations

import copy
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packing_helpers import same_bits
from torch import Tensor, nn

import secateur as sc
from secateur.lab import models
from secateur.pack.csr import csr_bytes
from secateur.vocabulary import BadTargetError, CorruptFileError, SecateurWarning, SelectionError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(x)))


def test_a_model_comes_back_into_another_of_its_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, other = Tied(), Tied()
    net(torch.arange(20))  # so that the norm has counted a batch
    packed = sc.pack(net, tmp_path / "x.sct")
    assert packed.ties == {"head.weight": "embedding.weight"}
    assert sc.unpack(tmp_path / "x.sct", into=other) is other
    assert all(same_bits(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.head.weight is other.embedding.weight
    back = sc.unpack(tmp_path / "x.sct")
    assert back["head.weight"] is back["embedding.weight"]


def test_wrappers_are_looked_through(tmp_path: Path) -> None:
    net = nn.Linear(4, 2)
    sc.pack(nn.DataParallel(net), tmp_path / "x.sct")
    other = nn.DataParallel(nn.Linear(4, 2))
    sc.unpack(tmp_path / "x.sct", into=other)
    assert torch.equal(other.module.weight, net.weight)


@pytest.mark.parametrize(("name", "shape"), [("lenet-300-100", (1, 28, 28)), ("resnet-18", (3, 32, 32))])
@pytest.mark.parametrize(("sparsity", "times"), [(0.9, 8.5), (0.95, 16.0)])
def test_pruned_networks_are_as_small_as_promised(
    tmp_path: Path, name: str, shape: tuple[int, int, int], sparsity: float, times: float
) -> None:
    torch.manual_seed(0)
    net = models.build(name, shape, 10)
    sc.prune(net, sparsity, choice=sc.Choice(scope=sc.PerTensor()))
    # Trained weights are not drawn evenly, as initial ones are: their exponents differ more.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(torch.exp(torch.randn_like(parameter)))
    packed = sc.pack(net, tmp_path / "x.sct")
    assert packed.ratio >= times
    assert packed.size == (tmp_path / "x.sct").stat().st_size


def test_masks_leave_out_what_is_not_zero_and_say_so(tmp_path: Path) -> None:
    net = nn.Linear(10, 10, bias=False)
    mask = torch.eye(10, dtype=torch.bool)
    with pytest.warns(SecateurWarning, match="90 weights of 'weight' that are not zero"):
        packed = sc.pack(net, tmp_path / "x.sct", masks={"weight": mask})
    assert packed.records["weight"].kept == 10
    assert torch.equal(sc.unpack(tmp_path / "x.sct")["weight"], net.weight * mask)
    assert net.weight.count_nonzero() == 100


def test_masks_of_tied_weights_count_under_any_name(tmp_path: Path) -> None:
    net = Tied()
    masks = sc.apply(net, {"head.weight": torch.rand(20, 8) < 0.5})
    with torch.no_grad():
        net.head.weight[~masks["head.weight"]] = -0.0
    packed = sc.pack(net, tmp_path / "x.sct", masks=masks)
    assert packed.records["embedding.weight"].kept == masks.count().kept


def test_zeros_made_by_multiplication_are_pointed_out(tmp_path: Path) -> None:
    net = nn.Linear(50, 50, bias=False)
    net.weight.data *= torch.rand(50, 50) < 0.1
    with pytest.warns(SecateurWarning, match="'weight' holds 1,1.. negative zeros"):
        sc.pack(net, tmp_path / "x.sct")


def test_one_call_quantizes_targets_and_rounds_the_rest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 10))
    sc.prune(net, 0.5)
    before = copy.deepcopy(net.state_dict())
    packed = sc.pack(net, tmp_path / "x.sct", bits=3)
    back = sc.unpack(tmp_path / "x.sct")
    assert all(same_bits(tensor, net.state_dict()[name]) for name, tensor in before.items())
    for name in ("0.weight", "3.weight", "3.bias"):
        assert len(back[name][back[name] != 0].unique()) <= 8
        assert torch.equal(back[name] == 0, before[name] == 0)
        assert (back[name] - before[name]).abs().max() < 0.1
    assert torch.equal(back["1.running_var"], before["1.running_var"].bfloat16().float())
    assert torch.equal(back["1.num_batches_tracked"], before["1.num_batches_tracked"])
    assert packed.size < sc.pack(net, tmp_path / "y.sct").size / 2
    # What shares its values already is not changed again.
    sc.unpack(tmp_path / "x.sct", into=net)
    assert sc.pack(net, tmp_path / "z.sct", bits=3).size == packed.size
    assert (tmp_path / "z.sct").read_bytes() == (tmp_path / "x.sct").read_bytes()


def test_tensors_alone_can_be_packed(tmp_path: Path) -> None:
    dense = torch.eye(30)
    packed = sc.pack({"w": dense.to_sparse_csr(), "b": torch.ones(3)}, tmp_path / "x.sct", metadata={"from": "me"})
    assert packed.metadata == {"from": "me"}
    assert torch.equal(sc.unpack(tmp_path / "x.sct")["w"], dense)
    assert sc.pack({}, tmp_path / "x.sct").ratio == 0
    assert sc.unpack(tmp_path / "x.sct") == {}


def test_views_and_other_layouts(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    named = {"t": base.T, "part": base[::2, 1:], "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    named |= {"conj": torch.randn(3, dtype=torch.complex64).conj(), "neg": torch.randn(3).neg()}
    sc.pack(named, tmp_path / "x.sct")
    back = sc.unpack(tmp_path / "x.sct")
    assert all(torch.equal(back[name], tensor) for name, tensor in named.items())


def test_what_is_in_a_file_is_printed() -> None:
    text = str(sc.Packed(Path("x"), 100, 60, {}, {"a": "b"}, {}, None))
    assert "= b" in text and "0 bytes packed into 100" in text


def test_a_table_adds_up(tmp_path: Path) -> None:
    packed = sc.pack(Tied(), tmp_path / "x.sct")
    assert packed.size == packed.start + sum(record.packed for record in packed.records.values()) + 8
    assert sc.read_index(tmp_path / "x.sct") == packed
    lines = str(packed).splitlines()
    assert lines[0].split()[:3] == ["tensor", "type", "shape"] and "compression ratio" in lines[-1]


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ({"w": 3}, {}, BadTargetError, "'w' is a int"),
    ({"w": torch.zeros(2, dtype=torch.complex128)}, {}, BadTargetError, "complex128"),
    ({"w": torch.empty(2, device="meta")}, {}, BadTargetError, "no values"),
    (nn.LazyLinear(3), {}, BadTargetError, "no values"),
    ({"w": torch.ones(2)}, {"masks": {"v": torch.ones(2, dtype=torch.bool)}}, BadTargetError, "'v'"),
    ({"w": torch.ones(2)}, {"masks": {"w": torch.ones(3, dtype=torch.bool)}}, BadTargetError, "shape"),
    ({"w": torch.ones(2)}, {"masks": {"w": torch.ones(2)}}, BadTargetError, "bool"),
    (nn.Linear(2, 2), {"masks": {"w": torch.ones(2, dtype=torch.bool)}}, BadTargetError, "no parameter 'w'"),
    ({"w": torch.ones(2, 2)}, {"bits": 9}, SelectionError, "1 to 8"),
    ({"w": torch.tensor([[float("nan")]])}, {"bits": 2}, BadTargetError, "'w' holds NaN"),
    ({"w": torch.ones(2)}, {"metadata": {":w": "x"}}, ValueError, "':w'"),
    ({"w": torch.ones(2)}, {"metadata": {"sct": "2"}}, ValueError, "'sct'"),
]


@pytest.mark.parametrize(("model", "options", "kind", "text"), BAD, ids=[text for *_, text in BAD])
def test_bad_input_leaves_the_old_file(
    tmp_path: Path, model: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    (tmp_path / "x.sct").write_text("old")
    with pytest.raises(kind, match=text):
        sc.pack(model, tmp_path / "x.sct", **options)
    assert (tmp_path / "x.sct").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.sct"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sc.pack(nn.Linear(2, 2), tmp_path / "x.sct")
    before = (tmp_path / "x.sct").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        sc.pack(nn.Linear(2, 2), tmp_path / "x.sct")
    assert (tmp_path / "x.sct").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "x.sct"]


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"anything": 1}


def test_extra_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTargetError, match="'_extra_state' is a dict"):
        sc.pack(Extra(2, 2), tmp_path / "x.sct")


def test_a_model_made_smaller_makes_a_whole_one_smaller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.build("mlp:32-32", (1, 8, 8), 10)
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        net.get_parameter("fc1.weight")[:20] = 0
        net.get_parameter("fc1.bias")[:20] = 0
    small = sc.shrink(net, x)
    packed = sc.pack(small, tmp_path / "x.sct")
    assert packed.manifest is not None and packed.nbytes < sum(p.nbytes for p in net.parameters())
    whole = sc.unpack(tmp_path / "x.sct", into=models.build("mlp:32-32", (1, 8, 8), 10))
    assert torch.equal(whole(x), small(x))
    assert torch.equal(sc.unpack(tmp_path / "x.sct", into=small)(x), whole(x))
    with pytest.raises(CorruptFileError, match=r"x\.sct"):
        sc.unpack(tmp_path / "x.sct", into=models.build("mlp:8-8", (1, 8, 8), 10), max_bytes=1 << 20)


def test_a_model_that_a_smaller_one_does_not_fit_stays_whole(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    sc.prune_units(net, torch.randn(4, 20), 0.5)
    sc.pack(sc.shrink(net, torch.randn(4, 20)), tmp_path / "x.sct")
    for other in (copy.deepcopy(net).double(), nn.Sequential(*copy.deepcopy(net), nn.Linear(5, 5))):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(BadTargetError, match="does not fit the model"):
            sc.unpack(tmp_path / "x.sct", into=other)
        after = other.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with pytest.raises(CorruptFileError, match=r"x\.sct: "):
        sc.unpack(tmp_path / "x.sct", into=nn.Sequential(nn.Linear(2, 2)))


def test_csr_is_what_torch_makes_of_it() -> None:
    tensors = {
        "w": torch.randn(20, 5, 3) * (torch.rand(20, 5, 3) < 0.2),
        "b": torch.ones(20),
        "i": torch.ones(2, 2).int(),
    }
    csr = sc.to_csr(tensors)
    assert torch.equal(csr["w"].to_dense().view(20, 5, 3), tensors["w"])
    assert csr["b"] is tensors["b"] and csr["i"] is tensors["i"]
    parts = (csr["w"].values(), csr["w"].col_indices(), csr["w"].crow_indices())
    assert csr_bytes(tensors) == sum(part.nbytes for part in parts) + 80 + 16


def test_a_file_is_read_without_torch(tmp_path: Path) -> None:
    sc.pack(Tied(), tmp_path / "x.sct")
    code = f"""
import sys
from pathlib import Path
sys.modules["torch"] = None
from secateur.pack.container import read_header
from secateur.pack.reading import allowed_bytes, read_arrays
with open({str(tmp_path / "x.sct")!r}, "rb") as file:
    contents = read_header(file, Path("x.sct"))
    allowed_bytes(contents)
    print(sorted(name for name, bits in read_arrays(file, contents)), file=sys.stderr)
print(contents)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "embedding.weight" in done.stderr and "= embedding.weight" in done.stdout


def test_bytes_of_a_model_made_smaller_count_what_makes_others_so(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    sc.prune_units(net, torch.randn(4, 20), 0.5)
    small = sc.shrink(net, torch.randn(4, 20))
    assert sc.measure(small).bytes.packed == sc.pack(small, tmp_path / "x.sct").path.stat().st_size


def test_codebooks_are_not_for_eight_bits(tmp_path: Path) -> None:
    narrow = torch.randn(4, 4).to(torch.float8_e4m3fn)
    sc.pack({"w": narrow, "v": torch.randn(4, 4)}, tmp_path / "x.sct", bits=1)
    assert torch.equal(sc.unpack(tmp_path / "x.sct")["w"].float(), narrow.float())
