"""The kernels of the contrastive losses against the dense form in double precision: on CUDA, or interpreted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from anmok.train.losses import clip_loss, fused, siglip_loss, walks
from anmok.train.losses.pairs import Positives, Settings, Sums
from anmok.train.losses.tiles import add_sigmoid, suited

# Not imported here: what Triton is to interpret it must be told before.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton comes with torch's builds for CUDA; pip install triton for its interpreter",
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALVES = (torch.bfloat16, torch.float16)
# of the gradient's length: what rounding to the dtype of the rows costs, or to TF32
ROUNDED = {torch.bfloat16: 4e-3, torch.float16: 1e-3, torch.float32: 1e-3}
Loss = Callable[..., Tensor]


@pytest.fixture(autouse=True, scope="module")
def _kernels() -> Iterator[None]:
    """TF32 is allowed, and without a GPU kernels are interpreted, where cuBLAS is not there to sum halves in fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE == "cpu":
            patch.setenv("TRITON_INTERPRET", "1")
            patch.setattr(fused, "product", lambda images, texts: images.dtype)
            patch.setattr(walks, "_add_product", lambda into, a, b, by: into.add_(a.float() @ b.float(), alpha=by))
        yield
    torch.set_float32_matmul_precision(before)


def loss(kind: str) -> Loss:
    return clip_loss if kind == "clip" else siglip_loss


def inputs(kind: str, count: int, dtype: torch.dtype, scale: float = 20.0) -> tuple[Tensor, ...]:
    """Images whose texts resemble them, of an odd width, and the learned numbers."""
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies bf16 as if it were integers")
    texts, noise = torch.randn(2, count, 41, generator=torch.Generator().manual_seed(count))
    rows = (functional.normalize(one, dim=1).to(DEVICE, dtype) for one in (texts + noise, texts))
    numbers = (scale,) if kind == "clip" else (scale, -10.0)
    return tuple(one.requires_grad_() for one in (*rows, *(torch.tensor(one, device=DEVICE) for one in numbers)))


def off(found: Tensor, wanted: Tensor) -> float:
    """How far from what is wanted, as a part of it."""
    return float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())


@pytest.mark.parametrize(("count", "chunk", "is_grouped"), [(304, 128, True), (150, "auto", False)])
@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_kernels_are_the_dense_form(kind: str, dtype: torch.dtype, count: int, chunk: int, is_grouped: bool) -> None:
    given = inputs(kind, count, dtype)
    groups = torch.arange(count, device=DEVICE) % 90 if is_grouped else None
    assert fused.product(*given[:2]) == dtype
    exact = tuple(one.detach().double().requires_grad_() for one in given)
    wanted, got = loss(kind)(*exact, groups=groups, chunk=None), loss(kind)(*given, groups=groups, chunk=chunk)
    assert got.dtype == torch.float32
    assert off(got, wanted) < (1e-4 if dtype == torch.float32 else 1e-5)  # TF32 rounds the rows themselves
    with torch.no_grad():
        assert float(loss(kind)(*given, groups=groups, chunk=chunk)) == float(got.detach())
    theirs, ours = torch.autograd.grad(wanted, exact), torch.autograd.grad(got, given)
    assert [one.dtype for one in ours[:2]] == [dtype, dtype]
    assert max(off(a, b) for a, b in zip(ours[:2], theirs[:2], strict=True)) < ROUNDED[dtype]
    assert max(off(a, b) for a, b in zip(ours[2:], theirs[2:], strict=True)) < 1e-4  # not from rounded slopes


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_learned_batch_has_a_small_loss(kind: str) -> None:
    rows = torch.eye(160, device=DEVICE)
    numbers = (100.0,) if kind == "clip" else (100.0, -50.0)
    assert 0 <= float(loss(kind)(rows, rows, *numbers)) < 1e-11
    numbers = (14.0,) if kind == "clip" else (28.0, -14.0)
    doubles = rows.double()
    wanted = loss(kind)(doubles, doubles, *numbers, chunk=None)  # 1e-4: of 1e-6 a pair
    assert off(loss(kind)(rows, rows, *numbers), wanted) < (1e-3 if kind == "clip" else 1e-6)  # 1e-7 beside a 1


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_loss_that_was_scaled_for_halves_leaves_no_infinities(kind: str) -> None:
    given = inputs(kind, 150, torch.float16)
    plain = torch.autograd.grad(loss(kind)(*given), given)
    scaled = torch.autograd.grad(loss(kind)(*given) * 1024, given)
    assert max(off(a / 1024, b.double()) for a, b in zip(scaled, plain, strict=True)) < 1e-3


def test_a_scale_of_nothing_has_a_gradient() -> None:
    given = inputs("siglip", 150, torch.float32, scale=0.0)
    exact = tuple(one.detach().double().requires_grad_() for one in given)
    wanted = torch.autograd.grad(siglip_loss(*exact, chunk=None), exact)
    assert (
        max(off(a, b) for a, b in zip(torch.autograd.grad(siglip_loss(*given), given)[2:], wanted[2:], strict=True))
        < 1e-5
    )


def test_no_square_is_larger_than_kernels_can_count() -> None:
    images, texts, *_ = inputs("siglip", 150, torch.float16)
    assert suited(images, texts, 10**6).chunk ** 2 < 2**31
    assert suited(images, texts, "auto").chunk == 8192


def test_other_peoples_texts_are_no_ones() -> None:
    images, texts, scale, bias = (one.detach() for one in inputs("siglip", 150, torch.float32))
    both = []
    for product in (torch.float32, None):
        sums = Sums.zero(images, texts[:90], has_gradients=True)
        add_sigmoid(sums, (images, texts[:90]), (scale, bias), Positives(None), Settings(64, product))
        assert sums.images is not None
        both.append((sums.loss, sums.bias, sums.images, sums.by_scale(images)))
    assert float(both[1][0]) > 0
    assert max(off(a, b.double()) for a, b in zip(*both, strict=True)) < 1e-3
