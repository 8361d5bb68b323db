"""Log-likelihood of the joint circuit over a block's sub-pixels, with its gradient, for training.

The circuit of one block is a sum over K latent states of products over the block's V sub-pixels; each leaf is a
discretised logistic, and the mean of a sub-pixel depends linearly on the residuals of those before it. A row of
parameters holds, in this order: ``V * K`` mean offsets, ``V * K`` log-scales, ``K`` logits of the latent states and
``V * (V - 1) / 2`` regression coefficients.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch

__all__ = [
    "LOG_SCALE_MAX",
    "LOG_SCALE_MIN",
    "MEAN_UNIT",
    "log_likelihood",
    "parameter_count",
]

MEAN_UNIT = 4.0
"""Grey levels per unit of a mean offset."""
LOG_SCALE_MIN = -3.0
LOG_SCALE_MAX = 5.0


def parameter_count(variables: int, states: int) -> int:
    """Length of a row of parameters for ``variables`` sub-pixels and ``states`` latent states."""
    return states * (2 * variables + 1) + variables * (variables - 1) // 2


def log_likelihood(parameters: torch.Tensor, values: torch.Tensor, base: torch.Tensor, *, states: int) -> torch.Tensor:
    """Natural log-likelihood of each block.

    ``parameters`` is float32 ``[blocks, parameter_count]``; ``values`` (integers as float32) and ``base``, the mean
    before offsets, are ``[blocks, variables]``. Differentiable in ``parameters`` and ``base``, where the regression
    on residuals is held constant in ``base``.
    """
    result: torch.Tensor = _MixtureLikelihood.apply(parameters, values, base, states)  # type: ignore[no-untyped-call]
    return result


class _MixtureLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, parameters: torch.Tensor, values: torch.Tensor, base: torch.Tensor, states: int
    ) -> torch.Tensor:
        gradient = torch.empty_like(parameters)
        result = torch.empty(len(parameters))
        _fused(
            parameters.detach().numpy(),
            values.numpy(),
            base.detach().numpy(),
            states,
            gradient.numpy(),
            result.numpy(),
        )
        ctx.save_for_backward(gradient)
        ctx.shape = (values.shape[1], states)
        return result

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        variables, states = ctx.shape
        scale = upstream[0][:, None]
        means = gradient[:, : variables * states].view(-1, variables, states)
        return gradient * scale, None, means.sum(2) / MEAN_UNIT * scale, None


@numba.njit(fastmath=True, cache=True, nogil=True)
def _fused(parameters, values, base, states, gradient, result):  # type: ignore[no-untyped-def]
    blocks, variables = values.shape
    cells = variables * states
    one, half, unit = np.float32(1.0), np.float32(0.5), np.float32(MEAN_UNIT)
    low, high, far = np.float32(LOG_SCALE_MIN), np.float32(LOG_SCALE_MAX), np.float32(80.0)
    log_joint = np.empty(states, np.float32)
    prior = np.empty(states, np.float32)
    by_mean = np.empty((variables, states), np.float32)
    by_scale = np.empty((variables, states), np.float32)
    residuals = np.empty(variables, np.float32)
    for block in range(blocks):
        row = parameters[block]
        top = row[2 * cells]
        for state in range(1, states):
            top = max(top, row[2 * cells + state])
        total = np.float32(0.0)
        for state in range(states):
            prior[state] = np.exp(row[2 * cells + state] - top)
            total += prior[state]
        for state in range(states):
            prior[state] /= total
            log_joint[state] = row[2 * cells + state] - top - np.log(total)
        coefficient = 2 * cells + states
        for variable in range(variables):
            residual = values[block, variable] - base[block, variable]
            residuals[variable] = residual
            for earlier in range(variable):
                residual -= row[coefficient] * residuals[earlier]
                coefficient += 1
            for state in range(states):
                cell = variable * states + state
                log_scale = min(max(row[cells + cell], low), high)
                inverse = np.exp(-log_scale)
                signed = residual - unit * row[cell]
                distance = abs(signed)
                near = (distance - half) * inverse
                decay = np.exp(-inverse)
                at_near = np.exp(-min(near, far))
                at_far = at_near * decay
                log_joint[state] -= near - np.log((one - decay) / ((one + at_near) * (one + at_far)))
                tail_near, tail_far = at_near / (one + at_near), at_far / (one + at_far)
                slope = inverse * (tail_near + tail_far - one)
                by_mean[variable, state] = -slope if signed > 0 else slope
                by_inverse = (
                    (distance - half) * (tail_near - one) + (distance + half) * tail_far + decay / (one - decay)
                )
                inside = row[cells + cell] == log_scale
                by_scale[variable, state] = -inverse * by_inverse if inside else np.float32(0.0)
        top = log_joint[0]
        for state in range(1, states):
            top = max(top, log_joint[state])
        total = np.float32(0.0)
        for state in range(states):
            log_joint[state] = np.exp(log_joint[state] - top)
            total += log_joint[state]
        result[block] = top + np.log(total)
        for state in range(states):
            log_joint[state] /= total
            gradient[block, 2 * cells + state] = log_joint[state] - prior[state]
        coefficient = 2 * cells + states
        for variable in range(variables):
            pull = np.float32(0.0)
            for state in range(states):
                cell = variable * states + state
                towards_mean = log_joint[state] * by_mean[variable, state]
                pull += towards_mean
                gradient[block, cell] = unit * towards_mean
                gradient[block, cells + cell] = log_joint[state] * by_scale[variable, state]
            for earlier in range(variable):
                gradient[block, coefficient] = pull * residuals[earlier]
                coefficient += 1
