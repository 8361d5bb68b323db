"""Running a quantised TensorFlow Lite network in torch: activations are rounded to 8 bits after every operator.

Values are held as float32 that are whole numbers 0 to 255, [1, C, H, W]; sums of products are float32, whose rounding
can in rare cases turn an activation to its neighbour: scores are the same on one machine, nearly so across machines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..formats.errors import UnsupportedInput
from .tflite_file import Graph, Operator, TensorInfo

__all__ = ["QuantisedNetwork"]

_SAME = 0
_RELU, _RELU6 = 1, 3


class QuantisedNetwork:
    """A network ready to run; ``input_size`` is (height, width)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.input_size = (graph.tensors[graph.input].shape[1], graph.tensors[graph.input].shape[2])
        self._steps = [_STEPS[operator.kind](graph, operator) for operator in graph.operators]

    def run(self, picture: Any, *, until: str | None = None) -> Any:
        """The real values of the output for a uint8 picture [H, W, 3] of the right size.

        ``until`` stops after the last operator of that kind (``AVERAGE_POOL_2D``). Float32 [1, C, H, W] or [1, N].
        """
        import torch

        values: dict[int, Any] = {self._graph.input: torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()}
        last = self._graph.operators[-1].output
        if until is not None:
            last = next(operator.output for operator in reversed(self._graph.operators) if operator.kind == until)
        with torch.inference_mode():
            for operator, step in zip(self._graph.operators, self._steps, strict=True):
                values[operator.output] = step(*(values.get(number) for number in operator.inputs))
                if operator.output == last:
                    break
        tensor = self._graph.tensors[last]
        return (values[last] - tensor.zero_point) * tensor.scale


Step = Callable[..., Any]


def _convolution(graph: Graph, operator: Operator) -> Step:
    import torch
    import torch.nn.functional as F

    source, kernel, bias = (graph.tensors[number] for number in operator.inputs)
    target = graph.tensors[operator.output]
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    weights = torch.from_numpy(_constant(kernel).astype("float32")) - kernel.zero_point
    # OHWI, or 1HWO for depthwise, to torch's OIHW
    weights = (weights.permute(3, 0, 1, 2) if depthwise else weights.permute(0, 3, 1, 2)).contiguous()
    offsets = torch.from_numpy(_constant(bias).astype("float32"))
    scale = source.scale * kernel.scale / target.scale
    options = operator.options
    stride = (options["StrideH"], options["StrideW"])
    dilation = (options.get("DilationHFactor", 1) or 1, options.get("DilationWFactor", 1) or 1)
    groups = weights.shape[0] if depthwise else 1
    finish = _requantise(target, options["FusedActivationFunction"])

    def step(value: Any, *_: Any) -> Any:
        value = value - source.zero_point
        if options["Padding"] == _SAME:
            value = F.pad(value, _same_padding(tuple(value.shape[2:]), tuple(weights.shape[2:]), stride, dilation))
        return finish(F.conv2d(value, weights, offsets, stride, 0, dilation, groups) * scale)

    return step


def _add(graph: Graph, operator: Operator) -> Step:
    one, two = (graph.tensors[number] for number in operator.inputs)
    target = graph.tensors[operator.output]
    finish = _requantise(target, operator.options["FusedActivationFunction"])

    def step(first: Any, second: Any) -> Any:
        total = (first - one.zero_point) * one.scale + (second - two.zero_point) * two.scale
        return finish(total / target.scale)

    return step


def _average_pool(graph: Graph, operator: Operator) -> Step:
    import torch.nn.functional as F

    options = operator.options
    size = (options["FilterHeight"], options["FilterWidth"])
    source = graph.tensors[operator.inputs[0]]
    if options["Padding"] == _SAME and size != source.shape[1:3]:
        raise UnsupportedInput("pooling with padding is not known")

    def step(value: Any) -> Any:
        return (F.avg_pool2d(value, size, (options["StrideH"], options["StrideW"])) + 0.5).floor()

    return step


def _resize(graph: Graph, operator: Operator) -> Step:
    import torch.nn.functional as F

    height, width = (int(side) for side in _constant(graph.tensors[operator.inputs[1]]))
    corners = bool(operator.options["AlignCorners"])
    if not corners and not operator.options["HalfPixelCenters"] and graph.tensors[operator.inputs[0]].shape[1] > 1:
        raise UnsupportedInput("resizing from the corner of pixels is not known")

    def step(value: Any, *_: Any) -> Any:
        return F.interpolate(value, (height, width), mode="bilinear", align_corners=corners).round()

    return step


def _quantise(graph: Graph, operator: Operator) -> Step:
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.output]
    finish = _requantise(target, 0)

    def step(value: Any) -> Any:
        return finish((value - source.zero_point) * (source.scale / target.scale))

    return step


def _concatenate(graph: Graph, operator: Operator) -> Step:
    import torch

    target = graph.tensors[operator.output]
    sources = [graph.tensors[number] for number in operator.inputs]
    if any((source.scale, source.zero_point) != (target.scale, target.zero_point) for source in sources):
        raise UnsupportedInput("concatenation of tensors of different scales is not known")
    if operator.options["Axis"] not in (3, -1):
        raise UnsupportedInput("concatenation is known along channels only")
    return lambda *values: torch.cat(values, dim=1)


def _reshape(graph: Graph, operator: Operator) -> Step:
    shape = graph.tensors[operator.output].shape
    # channels come last in the file: the order matters once height and width are more than one
    return lambda value, *_: value.permute(0, 2, 3, 1).reshape(shape)


def _softmax(graph: Graph, operator: Operator) -> Step:
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.output]
    # the file rounds probabilities to 256 levels, which would tie classes that the scores tell apart
    return lambda value: ((value - source.zero_point) * source.scale).softmax(dim=-1) / target.scale + target.zero_point


def _arg_max(graph: Graph, operator: Operator) -> Step:
    return lambda value, *_: value.argmax(dim=1)


_STEPS: dict[str, Callable[[Graph, Operator], Step]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool,
    "RESIZE_BILINEAR": _resize,
    "QUANTIZE": _quantise,
    "CONCATENATION": _concatenate,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "ARG_MAX": _arg_max,
}


def _requantise(target: TensorInfo, activation: int) -> Callable[[Any], Any]:
    low, high = 0.0, 255.0
    if activation in (_RELU, _RELU6):
        low = max(low, float(target.zero_point))
    if activation == _RELU6:
        high = min(high, float(round(6 / target.scale) + target.zero_point))
    return lambda value: (value.round_() + target.zero_point).clamp_(low, high)


def _same_padding(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """TensorFlow's SAME: as many outputs as strides fit, the odd pixel of padding after. (left, right, top, bottom)."""
    pads = []
    for length, extent, step, gap in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-length // step) - 1) * step + (extent - 1) * gap + 1 - length, 0)
        pads.append((total // 2, total - total // 2))
    return (*pads[1], *pads[0])


def _constant(tensor: TensorInfo) -> Any:
    if tensor.data is None:
        raise UnsupportedInput("a tensor that should be constant is computed in this file")
    return tensor.data
