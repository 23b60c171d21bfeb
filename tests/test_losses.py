"""The contrastive losses: chunked is dense, gradients are those of numbers, memory is linear, processes agree."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing
from torch.nn import functional

from anmok.errors import BadRequest
from anmok.train.losses import CHUNK, Matching, clip_loss, clip_loss_across, siglip_loss, siglip_loss_across
from anmok.train.losses.pairs import Settings
from anmok.train.losses.tiles import suited

Loss = Callable[..., Tensor]
GROUPS = [0, 1, 2, 0, 3, 1, 0]


def inputs(kind: str, count: int = 7, dtype: torch.dtype = torch.float64, scale: float = 9.0) -> tuple[Tensor, ...]:
    """Unit images and texts, scale and, for the sigmoid, bias."""
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(2, count, 5, generator=generator, dtype=torch.float64)
    images, texts = functional.normalize(rows, dim=2).to(dtype)
    numbers = (scale,) if kind == "clip" else (scale, -4.0)
    wide = torch.promote_types(dtype, torch.float32)
    return tuple(one.requires_grad_() for one in (images, texts, *(torch.tensor(one, dtype=wide) for one in numbers)))


def loss(kind: str) -> Loss:
    return clip_loss if kind == "clip" else siglip_loss


def groups(*, is_given: bool) -> Tensor | None:
    return torch.tensor(GROUPS) if is_given else None


def worst(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(first, second, strict=True))


def test_clip_of_two_pairs_is_what_the_formula_says() -> None:
    # logits [[2, 0], [0, 2]]: every row and every column costs log(1 + e^-2)
    images = texts = torch.eye(2)
    assert float(clip_loss(images, texts, 2.0)) == pytest.approx(math.log1p(math.exp(-2)), rel=1e-6)


def test_siglip_of_two_pairs_is_what_the_formula_says() -> None:
    # two positive logits of 3 - 1, two negative ones of -1, over two images
    images = texts = torch.eye(2)
    wanted = (2 * math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1))) / 2
    assert float(siglip_loss(images, texts, 3.0, -1.0)) == pytest.approx(wanted, rel=1e-6)


def test_pairs_of_one_group_are_each_others_targets() -> None:
    # three pairs alike, all one group: every target is a third on each of three equal logits
    rows = functional.normalize(torch.ones(3, 4), dim=1)
    assert float(clip_loss(rows, rows, 5.0, torch.zeros(3, dtype=torch.long))) == pytest.approx(math.log(3), rel=1e-6)
    wanted = 3 * math.log1p(math.exp(-5))
    assert float(siglip_loss(rows, rows, 5.0, 0.0, torch.zeros(3, dtype=torch.long))) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_chunked_is_dense(kind: str, chunk: int, is_grouped: bool) -> None:
    given = inputs(kind)
    dense, chunked = (loss(kind)(*given, groups=groups(is_given=is_grouped), chunk=one) for one in (None, chunk))
    assert abs(float((dense - chunked).detach())) < 1e-13
    assert worst(torch.autograd.grad(dense, given), torch.autograd.grad(chunked, given)) < 1e-13


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_gradients_are_those_of_finite_differences(kind: str, is_grouped: bool) -> None:
    def chunked(*given: Tensor) -> Tensor:
        return loss(kind)(*given, groups=groups(is_given=is_grouped), chunk=3)

    assert torch.autograd.gradcheck(chunked, inputs(kind))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_left_to_the_device_squares_are_those_of_a_processor(kind: str) -> None:
    given = inputs(kind, CHUNK + 6)
    assert suited(*given[:2], "auto") == Settings(CHUNK, product=None)
    assert suited(*given[:2], 5).chunk == 5
    dense, auto = loss(kind)(*given, chunk=None), loss(kind)(*given)
    assert float(auto.detach()) == pytest.approx(float(dense.detach()), rel=1e-12)
    assert worst(torch.autograd.grad(dense, given), torch.autograd.grad(auto, given)) < 1e-12


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_gradcheck_would_notice_a_forgotten_positive(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from anmok.train.losses.tiles import SigmoidSum, SoftmaxSums

    function = SoftmaxSums if kind == "clip" else SigmoidSum
    right = function.backward
    monkeypatch.setattr(
        function, "backward", staticmethod(lambda ctx, *given: (-right(ctx, *given)[0], None, *right(ctx, *given)[2:]))
    )
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda *given: loss(kind)(*given, chunk=3), inputs(kind))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_learned_batch_has_a_small_loss_in_single_precision(kind: str) -> None:
    rows = torch.eye(8)
    given = (rows, rows, 100.0) if kind == "clip" else (rows, rows, 100.0, -50.0)
    exact = loss(kind)(*(one.double() if isinstance(one, Tensor) else one for one in given), chunk=None)
    assert 0 <= float(loss(kind)(*given, chunk=3)) < 1e-12
    assert 0 <= float(exact) < 1e-12
    near = functional.normalize(torch.eye(8) + 0.9, dim=1)  # the logits lie between 86 and 100
    given = (near, near, *given[2:])
    exact = loss(kind)(*(one.double() if isinstance(one, Tensor) else one for one in given), chunk=None)
    assert float(loss(kind)(*given, chunk=3)) == pytest.approx(
        float(exact), rel=1e-3
    )  # of logits with a relative error of 1e-7


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_halves_are_summed_in_single_precision(kind: str) -> None:
    halves = inputs(kind, 300, torch.bfloat16, scale=80.0)
    exact = tuple(one.detach().double().requires_grad_() for one in halves)
    wanted, got = loss(kind)(*exact, chunk=None), loss(kind)(*halves, chunk=64)
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    theirs, ours = torch.autograd.grad(wanted, exact), torch.autograd.grad(got, halves)
    assert ours[0].dtype == torch.bfloat16
    assert ours[2].dtype == torch.float32
    assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=1e-5)
    # a gradient of eight bits is off by at most 2^-9 of itself, plus what vanishes beside the largest
    assert float((ours[0].double() - theirs[0]).abs().max()) < 2**-8 * float(theirs[0].abs().max())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_images_and_texts_may_have_two_dtypes(kind: str) -> None:
    images, texts, *numbers = inputs(kind, 20, torch.float32)
    half = images.detach().bfloat16().requires_grad_()
    mixed = loss(kind)(half, texts, *numbers, chunk=8)
    assert float(mixed.detach()) == float(loss(kind)(half.detach().float(), texts, *numbers, chunk=8).detach())
    gradients = torch.autograd.grad(mixed, (half, texts))
    assert [one.dtype for one in gradients] == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_autocast_does_not_round_the_logits(kind: str) -> None:
    given = inputs(kind, 50, torch.float32, scale=80.0)
    plain = loss(kind)(*given, chunk=16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(kind)(*given, chunk=16)
        gradients = torch.autograd.grad(inside, given)
    assert float(inside.detach()) == float(plain.detach())
    assert worst(gradients, torch.autograd.grad(plain, given)) == 0


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_what_is_kept_for_the_backward_pass_grows_with_n_not_with_its_square(kind: str) -> None:
    def kept(count: int, chunk: int | None) -> int:
        storages: dict[int, int] = {}

        def note(one: Tensor) -> Tensor:
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
            return one

        given = inputs(kind, count, torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
            alive = loss(kind)(*given, chunk=chunk)
        del alive
        return sum(storages.values())

    assert kept(1024, None) > 4 * 1024 * 1024  # a matrix of logits at least
    assert kept(1024, 64) < 200 * 1024  # rows of five numbers and some vectors
    assert 1.8 < kept(1024, 64) / kept(512, 64) < 2.2


def test_nothing_is_computed_for_gradients_that_no_one_wants() -> None:
    given = inputs("siglip")
    with torch.no_grad():
        assert not siglip_loss(*given).requires_grad
    fixed = tuple(one.detach() for one in given)
    assert not siglip_loss(*fixed).requires_grad
    only_texts = (fixed[0], given[1], *fixed[2:])
    wanted = torch.autograd.grad(siglip_loss(*only_texts, chunk=None), given[1])
    assert worst(torch.autograd.grad(siglip_loss(*only_texts, chunk=3), given[1]), wanted) < 1e-13


@pytest.mark.parametrize(
    ("images", "texts", "groups", "chunk", "said"),
    [
        (torch.ones(3, 4), torch.ones(3, 5), None, 8, "must both be"),
        (torch.ones(0, 4), torch.ones(0, 4), None, 8, "must both be"),
        (torch.ones(3, 4), torch.ones(3, 4).long(), None, 8, "both must be floating"),
        (torch.ones(3, 4), torch.ones(3, 4), torch.zeros(2).long(), 8, "must be integers"),
        (torch.ones(3, 4), torch.ones(3, 4), torch.zeros(3), 8, "must be integers"),
        (torch.ones(3, 4), torch.ones(3, 4), None, 0, "at least 1"),
        (torch.ones(3, 4), torch.ones(3, 4), None, "many", "chunk is 'many'"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    images: Tensor, texts: Tensor, groups: Tensor | None, chunk: int, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        clip_loss(images, texts, 1.0, groups, chunk)
    with pytest.raises(BadRequest, match=said):
        siglip_loss(images, texts, 1.0, 0.0, groups, chunk)


def test_matching_learns_its_scale_and_holds_that_of_clip() -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    sigmoid, softmax = Matching(), Matching("softmax")
    assert float(sigmoid(3 * rows, rows).detach()) == pytest.approx(
        float(siglip_loss(*(functional.normalize(rows, dim=1),) * 2, 10.0, -10.0)), rel=1e-5
    )
    sigmoid(rows, rows).backward()
    assert sigmoid.ln_scale.grad is not None
    assert float(sigmoid.ln_scale.grad) != 0
    with torch.no_grad():
        softmax.ln_scale.fill_(9.0)
    assert float(softmax.scale.detach()) == 100.0
    assert [name for name, _ in softmax.named_parameters()] == ["ln_scale"]


CASES = [(kind, is_grouped) for kind in ("clip", "siglip") for is_grouped in (False, True)]
LABELS = [0, 1, 2, 0, 3, 1, 0, 4]  # some groups lie in both halves


def _part(rank: int, port: int, folder: str) -> None:
    """One of two processes: its half of eight pairs, its losses and gradients written down."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mine, found = slice(4 * rank, 4 * rank + 4), []
    for kind, is_grouped in CASES:
        images, texts, *numbers = inputs(kind, 8)
        given = (images[mine].detach().requires_grad_(), texts[mine].detach().requires_grad_(), *numbers)
        labels = torch.tensor(LABELS)[mine] if is_grouped else None
        across: Loss = clip_loss_across if kind == "clip" else siglip_loss_across
        value = across(*given, groups=labels, chunk=3)
        gradients = torch.autograd.grad(value, given)
        refused = ""
        try:
            across(given[0][: 4 - rank], given[1][: 4 - rank], *numbers)
        except BadRequest as error:
            refused = str(error)
        found.append({"value": value.detach(), "gradients": gradients, "refused": refused})
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_part, (port, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    both = zip(*(torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)), strict=True)
    for (kind, is_grouped), (first, second) in zip(CASES, both, strict=True):
        given = inputs(kind, 8)
        labels = torch.tensor(LABELS) if is_grouped else None
        whole = loss(kind)(*given, groups=labels, chunk=None)
        assert float((first["value"] + second["value"]) / 2) == pytest.approx(float(whole.detach()), rel=1e-13)
        parts = list(zip(first["gradients"], second["gradients"], strict=True))
        joined = [torch.cat(pair) / 2 for pair in parts[:2]] + [(a + b) / 2 for a, b in parts[2:]]
        assert worst(tuple(joined), torch.autograd.grad(whole, given)) < 1e-13
        assert "processes hold [4, 3] pairs" in first["refused"]
        assert first["refused"] == second["refused"]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_one_process_alone_needs_no_group(kind: str) -> None:
    given = inputs(kind)
    across: Loss = clip_loss_across if kind == "clip" else siglip_loss_across
    alone, plain = across(*given, chunk=3), loss(kind)(*given, chunk=None)
    assert float(alone.detach()) == pytest.approx(float(plain.detach()), rel=1e-13)
    assert worst(torch.autograd.grad(alone, given), torch.autograd.grad(plain, given)) < 1e-13


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_forms_of_the_benchmark_compute_one_thing(kind: str) -> None:
    from benchmarks.losses_forms import FORMS
    from benchmarks.losses_forms import loss as form

    images, texts, scale, *rest = inputs(kind, 50)
    given = (images, texts, scale, *(rest or [torch.zeros((), dtype=torch.float64, requires_grad=True)]))
    wanted = loss(kind)(images, texts, scale, *rest, chunk=None)
    gradients = torch.autograd.grad(wanted, (images, texts, scale))
    for name in (one for one in FORMS if one != "open_clip"):  # which is not installed here
        value = form(name, kind, 16)(*given)
        assert float(value.detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)
        assert worst(torch.autograd.grad(value, given[:3]), gradients) < 1e-12


@pytest.mark.slow
def test_the_benchmark_measures_time_and_memory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.losses import command

    file = tmp_path / "out.json"
    words = ["--sizes", "1024", "--kinds", "siglip", "--forms", "dense", "anmok", "--rounds", "1", "--device", "cpu"]
    command([*words, "--chunk", "64", "--width", "64", "--json", str(file)])
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [row["form"] for row in rows] == ["dense", "anmok"]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)
    assert rows[0]["bytes"][0] > 3 * 4 * 1024**2 > 2 * rows[1]["bytes"][0]
    command([*words[:6], *words[7:], "--memory", "0.005"])
    assert "| dense | skipped: more than 0.005 GB |" in capsys.readouterr().out
