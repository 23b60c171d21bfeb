"""An ONNX graph of the user's, run by onnxruntime: pictures in, rows of numbers out.

No library of custom operators is ever loaded, and weights are read from the graph's own folder alone. A tensor inside
the graph can be had as an output too: what protocol buffers write behind a message is merged into it, so a few bytes
after the file's own name a further output.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from anmok.errors import BadWeights, MissingDependency, Unsupported
from anmok.nets import onnx_graph

Array = NDArray[np.float32]
Layout = Literal["nchw", "nhwc"]

log: Final = logging.getLogger("anmok")

_TYPES: Mapping[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_QUIET = 4  # onnxruntime's level for what it prints itself: its errors come as exceptions too
_GRAPH, _OUTPUT, _NAME = 7, 12, 1  # numbers of fields in onnx.proto


@dataclass(frozen=True, slots=True)
class Plan:
    """How one graph is used; what was found out of it once, and kept.

    ``batch`` is the number of pictures in one pass, 0 for any. ``scores`` and ``features`` are names of tensors;
    ``scores`` is empty where the graph does not classify. ``is_scored`` says that a softmax, or a sigmoid, lies
    within the graph, and ``is_inner`` that the features are none of its outputs.
    """

    layout: Layout
    batch: int
    features: str
    scores: str = ""
    is_scored: bool = False
    is_inner: bool = False

    @property
    def wanted(self) -> tuple[str, ...]:
        return (self.features, self.scores) if self.scores else (self.features,)


class Session:
    """One graph, opened. Several threads may run it.

    Args:
        path: the ``.onnx`` file.
        taps: tensors inside the graph that are wanted beside its outputs.
        device: ``cuda`` or ``cuda:1``, which is warned of where this onnxruntime has no CUDA; the CPU does the work
            then, and with every other device.

    Raises:
        MissingDependency: onnxruntime is not installed.
        BadWeights: the file is none that onnxruntime can run, or refers to files outside its folder.
        Unsupported: the graph takes something else than one batch of pictures.
    """

    def __init__(self, path: Path, taps: Sequence[str] = (), device: str = "cpu") -> None:
        self.path = path.resolve()
        self.graph = onnx_graph.read(self.path)
        source = self.path.read_bytes() + b"".join(_tap(name) for name in taps) if taps else str(self.path)
        self._net: Any = opened(source, self.path.name, device, self.path.parent if taps else None)
        inputs = self._net.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs) or "nothing"
            raise Unsupported(f"{path.name} takes {names}: want a graph with one input, a batch of pictures")
        self._input: str = inputs[0].name
        self.shape: tuple[int | None, ...] = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)
        if inputs[0].type not in _TYPES:
            kind = inputs[0].type.removeprefix("tensor(").removesuffix(")")
            raise Unsupported(f"{path.name} takes {kind}: want float numbers; export it without the preprocessing")
        self._dtype = _TYPES[inputs[0].type]
        self.outputs: tuple[str, ...] = tuple(one.name for one in self._net.get_outputs() if one.type in _TYPES)

    @property
    def nbytes(self) -> int:
        """Of the graph's file and of those that it keeps weights in."""
        return sum(file.stat().st_size for file in (self.path, *self.graph.external))

    def run(self, batch: Array, layout: Layout, names: Sequence[str]) -> dict[str, NDArray[np.generic]]:
        """(B, 3, h, w) to the tensors of these names, as the graph makes them.

        Raises:
            BadWeights: the graph cannot be run on it.
        """
        pixels = batch if layout == "nchw" else batch.transpose(0, 2, 3, 1)  # (B, 3, h, w) or (B, h, w, 3)
        try:
            made = self._net.run(list(names), {self._input: np.ascontiguousarray(pixels, self._dtype)})
        except failures() as error:
            raise BadWeights(f"{self.path.name} fails on pictures {pixels.shape}: {reason(error)}") from None
        return dict(zip(names, made, strict=True))

    def rows(self, batch: Array, plan: Plan) -> dict[str, Array]:
        """(B, 3, h, w) to one row of numbers per picture, float32 (B, ...) flattened, of each tensor of the plan.

        A graph with a fixed number of pictures gets them in groups; the last one repeats its last picture, whose
        further answers are dropped.
        """
        size = plan.batch or len(batch)
        parts: dict[str, list[Array]] = {name: [] for name in plan.wanted}
        for start in range(0, len(batch), size):
            group = batch[start : start + size]
            full = np.concatenate([group, np.repeat(group[-1:], size - len(group), axis=0)])  # (size, 3, h, w)
            for name, made in self.run(full, plan.layout, tuple(parts)).items():
                parts[name].append(np.asarray(made, np.float32).reshape(size, -1)[: len(group)])  # (b, N)
        return {name: np.concatenate(rows) for name, rows in parts.items()}


def opened(source: str | bytes, name: str, device: str = "cpu", folder: Path | None = None) -> Any:
    """A session of onnxruntime on a file, or on its bytes; ``folder`` is where weights beside those bytes may lie.

    Raises:
        MissingDependency: onnxruntime is not installed.
        BadWeights: it cannot be run; the message calls it by ``name``.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle model leaves the cores to others
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return runtime.InferenceSession(source, options, providers=_providers(runtime, device, name))
    except failures() as error:
        raise BadWeights(
            f"{name} cannot be opened: {reason(error)} (libraries of custom operators are not loaded)"
        ) from None


def _providers(runtime: Any, device: str, name: str) -> list[Any]:
    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        log.warning("%s runs on the CPU: this onnxruntime has no CUDA (pip install onnxruntime-gpu)", name)
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


def _tap(name: str) -> bytes:
    """A message of a model whose graph has this further output."""
    value = _message(_NAME, name.encode())
    return _message(_GRAPH, _message(_OUTPUT, value))


def _message(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + content


def _runtime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingDependency("ONNX models need onnxruntime: pip install 'anmok[onnx]'") from None
    return onnxruntime


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own without a common root, and Python's for a wrong argument."""
    state = _runtime().capi.onnxruntime_pybind11_state
    own = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    found = (getattr(state, name, None) for name in (*own, "EPFail", "NoModel", "RuntimeException"))
    return (*(one for one in found if one is not None), RuntimeError, ValueError)


def reason(error: Exception) -> str:
    """One line of what onnxruntime says, without its own prefix."""
    return " ".join(str(error).rpartition("] : ")[2].split())[:300]
