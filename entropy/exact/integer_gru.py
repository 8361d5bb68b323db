"""A gated recurrent unit in exact integers.

The equations are those of Cho et al. 2014 in the form of :class:`torch.nn.GRUCell`. The state is an
int64 fraction with 15 bits; products use its upper 8 bits, weights are int8, and the gates come from
integer look-up tables, so that the same integers appear on every device and in every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...formats.errors import InvalidParameter
from .integer_linear import IntegerLinear, integer_linear, rescale
from .lookup_tables import sigmoid_table, tanh_table

if TYPE_CHECKING:
    from .lookup_tables import LookupTable

__all__ = ["STATE_BITS", "IntegerGRUCell", "integer_gru_cell"]

STATE_BITS = 15
_GATE_FRACTION_BITS = 8
_ACTIVATION_BITS = 7
_STATE_LIMIT = (1 << STATE_BITS) - 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerGRUCell:
    """One step of the recurrence. Build it with :func:`integer_gru_cell`."""

    from_input: IntegerLinear
    from_state: IntegerLinear
    weight_bits: int
    sigmoid: LookupTable
    tanh: LookupTable

    @property
    def hidden(self) -> int:
        """The number of state elements."""
        return self.from_state.weight.shape[1]

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Zeros, int64 [batch, hidden]."""
        return torch.zeros(batch, self.hidden, dtype=torch.int64, device=device)

    def __call__(self, inputs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The next state.

        Args:
            inputs: integers [batch, inputs] in -127..127, in units of ``2**-7``.
            state: int64 [batch, hidden] in units of ``2**-15``, as returned by the step before.
        """
        # Both sums are in units of 2**-(weight_bits + 7); the tables want 2**-8.
        shift = self.weight_bits + _ACTIVATION_BITS - _GATE_FRACTION_BITS
        narrow = rescale(state, shift=STATE_BITS - _ACTIVATION_BITS, limit=127)
        ours = self.from_input(inputs).chunk(3, dim=1)
        theirs = self.from_state(narrow).chunk(3, dim=1)
        reset = self.sigmoid((ours[0] + theirs[0]) >> shift).long()
        update = self.sigmoid((ours[1] + theirs[1]) >> shift).long()
        recalled = (reset * theirs[2]) >> STATE_BITS
        candidate = self.tanh((ours[2] + recalled) >> shift).long()
        blend = candidate * ((1 << STATE_BITS) - update) + state * update
        return rescale(blend, shift=STATE_BITS, limit=_STATE_LIMIT)


def integer_gru_cell(
    weight_input: torch.Tensor,
    weight_state: torch.Tensor,
    bias_input: torch.Tensor,
    bias_state: torch.Tensor,
    *,
    weight_bits: int,
) -> IntegerGRUCell:
    """Prepare a cell from quantised parameters, gates in the order reset, update, candidate.

    Args:
        weight_input: int8 [3 * hidden, inputs] in units of ``2**-weight_bits``.
        weight_state: int8 [3 * hidden, hidden] in the same units.
        bias_input: integers [3 * hidden] in units of ``2**-(weight_bits + 7)``; likewise ``bias_state``.
        weight_bits: 1 to 12. A float weight ``w`` becomes ``round(w * 2**weight_bits)`` in -127..127.

    Raises:
        InvalidParameter: shapes or ranges do not fit.
    """
    if not 1 <= weight_bits <= 12:
        raise InvalidParameter(f"weight_bits must be 1..12, got {weight_bits}")
    if weight_input.shape[0] != 3 * weight_state.shape[1] or weight_state.shape[0] != 3 * weight_state.shape[1]:
        raise InvalidParameter(
            f"a GRU needs weights [3 * hidden, inputs] and [3 * hidden, hidden], got "
            f"{tuple(weight_input.shape)} and {tuple(weight_state.shape)}"
        )
    return IntegerGRUCell(
        from_input=integer_linear(weight_input, bias_input, input_limit=127),
        from_state=integer_linear(weight_state, bias_state, input_limit=127),
        weight_bits=weight_bits,
        sigmoid=sigmoid_table(fraction_bits=_GATE_FRACTION_BITS, output_bits=STATE_BITS),
        tanh=tanh_table(fraction_bits=_GATE_FRACTION_BITS, output_bits=STATE_BITS),
    )
