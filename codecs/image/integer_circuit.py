"""A hidden Chow-Liu tree in integers: what is stored, hashed and coded with.

Rows of transitions and leaves are frequencies that sum to ``2**16``. Everything computed from them stays below
``2**53``, so float64 arrays hold it exactly and sums do not depend on their order. The recipe is the numeric
profile :data:`PROFILE`; any change of a number here needs a new name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.frequency_table import normalise_counts
from ...formats.errors import CorruptFile, InvalidParameter
from .circuit import HiddenTree
from .grey_classes import GREYS, GreyClasses
from .structure import Tree

__all__ = [
    "MAX_STATES",
    "PROFILE",
    "ROW_BITS",
    "IntegerCircuit",
    "load_circuit",
    "quantised",
    "save_circuit",
]

PROFILE = "hclt-int-1"
ROW_BITS = 16
MAX_STATES = 128
MAX_VARIABLES = 1 << 14

_FIELDS = {
    "parents": np.int32,
    "root": np.uint32,
    "transitions": np.uint16,
    "leaves": np.uint16,
    "class_of_grey": np.uint8,
    "frequencies": np.uint32,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class IntegerCircuit:
    """``root`` ``[states]``, ``transitions`` ``[variables, parent state, state]``, ``leaves``
    ``[variables, state, class]``.

    ``height`` and ``width`` say how variables lie in an image, row by row.
    """

    height: int
    width: int
    tree: Tree
    classes: GreyClasses
    root: NDArray[np.uint32]
    transitions: NDArray[np.uint16]
    leaves: NDArray[np.uint16]

    def __post_init__(self) -> None:
        variables, states, classes = self.tree.size, len(self.root), self.classes.count
        if self.height * self.width != variables or not 1 <= variables <= MAX_VARIABLES:
            raise CorruptFile(f"circuit of {variables} variables for images of {self.height}x{self.width} pixels")
        if not 2 <= states <= MAX_STATES or classes < 2:
            raise CorruptFile(f"circuit with {states} states and {classes} classes")
        expected = ((variables, states, states), (variables, states, classes))
        if (self.transitions.shape, self.leaves.shape) != expected:
            raise CorruptFile("circuit tables do not have the shapes its structure asks for")
        for name, table in (
            ("root", self.root),
            ("transitions", self.transitions),
            ("leaves", self.leaves),
        ):
            sums = table.sum(-1, dtype=np.int64)
            if int(table.min()) < 1 or not (sums == 1 << ROW_BITS).all():
                raise CorruptFile(f"circuit {name}: frequencies must be positive and sum to 2**16")

    @property
    def states(self) -> int:
        return len(self.root)

    @cached_property
    def transition_tables(self) -> NDArray[np.float64]:
        """Transitions as exact float64 ``[variables, parent state, state]``."""
        return self.transitions.astype(np.float64)

    @cached_property
    def transposed_tables(self) -> NDArray[np.float64]:
        """Transitions as exact float64 ``[variables, state, parent state]``."""
        return np.ascontiguousarray(self.transition_tables.transpose(0, 2, 1))

    @cached_property
    def cumulative_leaves(self) -> NDArray[np.float64]:
        """Leaf frequencies summed over earlier classes: exact float64 ``[variables, class + 1, state]``."""
        sums = np.zeros((self.tree.size, self.classes.count + 1, self.states))
        np.cumsum(self.leaves.transpose(0, 2, 1), axis=1, dtype=np.float64, out=sums[:, 1:])
        return sums

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every number that decides a symbol."""
        running = hashlib.sha256(f"{PROFILE};{self.height}x{self.width};".encode())
        for name, array in _arrays(self).items():
            running.update(f"{name}{array.shape};".encode())
            running.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return running.hexdigest()

    def to_float(self) -> HiddenTree:
        """The same distribution in floating point, to ask questions of."""
        import torch

        def table(values: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(values.astype(np.float32)) / (1 << ROW_BITS)

        return HiddenTree(
            tree=self.tree,
            root=table(self.root),
            transitions=table(self.transitions),
            leaves=table(self.leaves),
        )


def quantised(model: HiddenTree, classes: GreyClasses, height: int, width: int) -> IntegerCircuit:
    """Round every row of ``model`` to frequencies, none below one."""
    return IntegerCircuit(
        height=height,
        width=width,
        tree=model.tree,
        classes=classes,
        root=_rows(model.root.numpy()).astype(np.uint32),
        transitions=_rows(model.transitions.numpy()).astype(np.uint16),
        leaves=_rows(model.leaves.numpy()).astype(np.uint16),
    )


def save_circuit(circuit: IntegerCircuit, path: Path) -> None:
    """Write ``circuit`` as safetensors."""
    from safetensors.numpy import save_file

    metadata = {
        "profile": PROFILE,
        "height": str(circuit.height),
        "width": str(circuit.width),
        "digest": circuit.digest,
    }
    save_file(_arrays(circuit), path, metadata=metadata)


def load_circuit(path: Path) -> IntegerCircuit:
    """Read and check a circuit; raises :class:`CorruptFile` for anything that is not one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InvalidParameter(f"{path}: no such file of circuit weights")
    try:
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in _FIELDS}
        height, width = int(metadata["height"]), int(metadata["width"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptFile(f"{path} does not hold a circuit: {error}") from error
    if metadata.get("profile") != PROFILE:
        raise CorruptFile(f"{path} has the numeric profile {metadata.get('profile')}, not {PROFILE}")
    for name, dtype in _FIELDS.items():
        if arrays[name].dtype != dtype:
            raise CorruptFile(f"{path}: {name} is {arrays[name].dtype}, expected {np.dtype(dtype)}")
    circuit = IntegerCircuit(
        height=height,
        width=width,
        tree=Tree(parents=tuple(int(parent) for parent in arrays["parents"])),
        classes=GreyClasses(class_of_grey=arrays["class_of_grey"], frequencies=arrays["frequencies"]),
        root=arrays["root"],
        transitions=arrays["transitions"],
        leaves=arrays["leaves"],
    )
    if metadata.get("digest") != circuit.digest:
        raise CorruptFile(f"{path}: the stored digest disagrees with the weights; the file is damaged")
    return circuit


def _arrays(circuit: IntegerCircuit) -> dict[str, NDArray[Any]]:
    return {
        "parents": np.array(circuit.tree.parents, np.int32),
        "root": circuit.root,
        "transitions": circuit.transitions,
        "leaves": circuit.leaves,
        "class_of_grey": circuit.classes.class_of_grey,
        "frequencies": circuit.classes.frequencies[:GREYS],
    }


def _rows(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Frequencies that sum to ``2**16`` along the last axis."""
    rows = probabilities.reshape(-1, probabilities.shape[-1]).astype(np.float64)
    counts = np.rint(rows * (1 << 40)).astype(np.int64)
    result = np.stack([normalise_counts(row, bits=ROW_BITS) for row in counts])
    return result.reshape(probabilities.shape)
