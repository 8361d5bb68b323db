"""Reading TensorFlow Lite files: the operators of a quantised network and their constant tensors.

Only the operators of the shipped perception models are known; another one is refused when the file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..formats.errors import CorruptFile, UnsupportedInput
from .peers import load_optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Graph", "Operator", "TensorInfo", "read_tflite"]

_TYPES = {0: "float32", 2: "int32", 3: "uint8", 4: "int64", 9: "int8"}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "CONCATENATION": "ConcatenationOptions",
    "RESHAPE": None,
    "SOFTMAX": None,
    "QUANTIZE": None,
    "ARG_MAX": None,
}
_FIELDS = (
    "StrideH",
    "StrideW",
    "DilationHFactor",
    "DilationWFactor",
    "Padding",
    "FusedActivationFunction",
    "FilterHeight",
    "FilterWidth",
    "AlignCorners",
    "HalfPixelCenters",
    "Axis",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """A tensor: real value = ``scale`` x (stored - ``zero_point``); ``data`` only for constants."""

    shape: tuple[int, ...]
    scale: float
    zero_point: int
    data: NDArray[np.generic] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator: its ``kind`` as TensorFlow Lite calls it, tensor numbers, and its options by name."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network of one input picture and one output."""

    tensors: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int


def read_tflite(data: bytes) -> Graph:
    """Read a file; raises :class:`CorruptFile`, and :class:`UnsupportedInput` for operators that are not known."""
    tflite = load_optional("tflite", "tflite")
    if data[4:8] != b"TFL3":
        raise CorruptFile("not a TensorFlow Lite file")
    try:
        model = tflite.Model.GetRootAsModel(data, 0)
        graph = model.Subgraphs(0)
        operators = tuple(_operator(tflite, model, graph.Operators(n)) for n in range(graph.OperatorsLength()))
        tensors = tuple(_tensor(model, graph.Tensors(n)) for n in range(graph.TensorsLength()))
        return Graph(tensors=tensors, operators=operators, input=graph.Inputs(0), output=graph.Outputs(0))
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        # the flatbuffers library raises these where offsets lead nowhere
        raise CorruptFile(f"the TensorFlow Lite file is damaged: {type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("struct", "flatbuffers"):
            raise CorruptFile(f"the TensorFlow Lite file is damaged: {error}") from error
        raise


def _operator(tflite: Any, model: Any, operator: Any) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = next(
        (name for name, value in vars(tflite.BuiltinOperator).items() if value == number and name.isupper()),
        str(number),
    )
    if kind not in _OPTIONS:
        raise UnsupportedInput(f"the operator {kind} of this TensorFlow Lite file is not known")
    options: dict[str, int] = {}
    class_name = _OPTIONS[kind]
    if class_name is not None:
        table = getattr(tflite, class_name)()
        table.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        options = {name: int(getattr(table, name)()) for name in _FIELDS if hasattr(table, name)}
    inputs = tuple(int(number) for number in operator.InputsAsNumpy())
    return Operator(kind=kind, inputs=inputs, output=int(operator.Outputs(0)), options=options)


def _tensor(model: Any, tensor: Any) -> TensorInfo:
    import numpy as np

    quantisation = tensor.Quantization()
    quantised = quantisation is not None and quantisation.ScaleLength() > 0
    if quantised and quantisation.ScaleLength() > 1:
        raise UnsupportedInput("scales for each channel are not known here, only one for each tensor")
    shape = tuple(int(side) for side in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    data = None
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    if not isinstance(raw, int):
        if tensor.Type() not in _TYPES:
            raise UnsupportedInput(f"tensors of type {tensor.Type()} are not known")
        data = np.frombuffer(raw.tobytes(), dtype=_TYPES[tensor.Type()]).reshape(shape)
    return TensorInfo(
        shape=shape,
        scale=float(quantisation.Scale(0)) if quantised else 1.0,
        zero_point=int(quantisation.ZeroPoint(0)) if quantised else 0,
        data=data,
    )
