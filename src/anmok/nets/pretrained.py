"""A net of a library, filled with published tensors: every one of them, or not at all.

transformers renames the tensors of older checkpoints while it loads them and reports what did not fit, but
then goes on with random numbers in those places. Here that is an error.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anmok.errors import BadWeights

N = TypeVar("N", bound=nn.Module)
C = TypeVar("C")  # a configuration of transformers

_LOADING = threading.Lock()  # the library's verbosity is one for the whole process
_SHOWN = 3  # names in a message


def configured(kind: type[C], content: Mapping[str, Any], name: str) -> C:
    """What a ``config.json`` says, as the class that a net wants. ``name`` is the card's, for messages.

    Raises:
        BadWeights: it is the configuration of another sort of net.
    """
    wanted = kind.model_type  # type: ignore[attr-defined]
    if content.get("model_type") != wanted:
        raise BadWeights(f"{name}: config.json is of a {content.get('model_type')!r}, not of a {wanted}")
    with _quiet():
        config: C = kind.from_dict(dict(content))  # type: ignore[attr-defined]
    return config


def filled(kind: type[N], config: Any, state: Mapping[str, Tensor], dtype: torch.dtype, name: str) -> N:
    """A net of a transformers class with the tensors of a checkpoint, ready for inference. Reads no file.

    Args:
        kind: the class, such as ``CLIPModel``.
        config: its configuration, of the class that it wants.
        state: the checkpoint. Tensors of the wanted dtype are taken over, not copied.
        dtype: of the net's weights.
        name: of the card, for messages.

    Raises:
        BadWeights: a tensor is missing, left over, or of another shape.
    """
    with _quiet():
        net, report = kind.from_pretrained(  # type: ignore[attr-defined]
            None,
            config=config,
            state_dict=dict(state),
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that shapes are in the report as well
        )
    faults = {
        "missing": sorted(report["missing_keys"]),
        "left over": sorted(report["unexpected_keys"]),
        "of another shape": sorted(key for key, *_ in report["mismatched_keys"]),
        "broken": sorted(report["error_msgs"]),
    }
    _check(faults, name)
    filled_net: N = net.eval()
    return filled_net


def fill(net: N, state: Mapping[str, Tensor], dtype: torch.dtype, name: str) -> N:
    """A net of ours, which may lie on no device yet, with published tensors: every one of them, or not at all.

    Args:
        net: made ready for inference, in place. Its buffers are among its tensors.
        state: by the net's own names. Tensors of the wanted dtype are taken over, not copied.
        dtype: of the net's weights.
        name: of the card, for messages.

    Raises:
        BadWeights: a tensor is missing, left over, or of another shape.
    """
    wanted = net.state_dict()
    faults = {
        "missing": sorted(wanted.keys() - state.keys()),
        "left over": sorted(state.keys() - wanted.keys()),
        "of another shape": sorted(
            key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape
        ),
    }
    _check(faults, name)
    net.load_state_dict({key: tensor.to(dtype) for key, tensor in state.items()}, assign=True)
    return net.eval()


def _check(faults: Mapping[str, Sequence[str]], name: str) -> None:
    """Raises:
    BadWeights: there are some."""
    said = [f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])})" for what, keys in faults.items() if keys]
    if said:
        raise BadWeights(f"{name}: the weights do not fit the net: {'; '.join(said)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library's progress bar, its table of misfits and its remarks on configurations kept off the terminal."""
    from transformers.utils import logging as library

    with _LOADING:
        level, has_bar = library.get_verbosity(), library.is_progress_bar_enabled()
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            library.set_verbosity(level)
            if has_bar:
                library.enable_progress_bar()  # type: ignore[no-untyped-call]
