"""Learning hidden Chow-Liu trees by expectation maximisation on mini-batches.

Expected counts of a batch come from one upward and one downward pass; running counts, averaged with a decreasing
step (Cappe and Moulines, 2009), are normalised into parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...formats.errors import InvalidParameter
from ..run_context import RunContext
from .circuit import HiddenTree, Messages, upward
from .structure import Tree

__all__ = ["ExpectedCounts", "LearningSettings", "expected_counts", "learn"]

_TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """How a tree is learned; the pseudo-counts are in images per row of a table."""

    states: int = 32
    epochs: int = 30
    batch: int = 512
    first_step: float = 1.0
    last_step: float = 0.02
    transition_pseudo_count: float = 1.0
    leaf_pseudo_count: float = 1.0

    def __post_init__(self) -> None:
        if self.states < 1 or self.epochs < 1 or self.batch < 1:
            raise InvalidParameter("states, epochs and batch must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCounts:
    """Expected uses of every parameter, shaped like the parameters of :class:`HiddenTree`."""

    root: torch.Tensor
    transitions: torch.Tensor
    leaves: torch.Tensor


def learn(
    classes: torch.Tensor, tree: Tree, alphabet: int, settings: LearningSettings, context: RunContext
) -> HiddenTree:
    """Learn from ``classes`` ``[images, variables]`` (values below ``alphabet``)."""
    generator = torch.Generator().manual_seed(context.seed)
    marginal = _marginals(classes, alphabet)
    model = _random_tree(tree, marginal, settings.states, generator)
    counts: ExpectedCounts | None = None
    batches = -(-len(classes) // settings.batch)
    total = settings.epochs * batches
    step = 0
    for epoch in range(settings.epochs):
        order = torch.randperm(len(classes), generator=generator)
        log_likelihood = 0.0
        for rows in order.split(settings.batch):
            messages = upward(model, classes[rows])
            log_likelihood += float(messages.log_likelihood.sum())
            fresh = expected_counts(model, messages, classes[rows])
            size = _step_size(step, total, settings)
            counts = _averaged(counts, fresh, size, len(classes) / len(rows))
            model = _normalised(tree, counts, marginal, settings)
            step += 1
            context.check_cancelled()
        bits = -log_likelihood / (len(classes) * tree.size) / 0.6931471805599453
        context.report("learn", epoch + 1, settings.epochs, unit="epochs", bits_per_class=bits)
    return model


def expected_counts(model: HiddenTree, messages: Messages, classes: torch.Tensor) -> ExpectedCounts:
    """Expected counts of a batch whose upward pass gave ``messages``."""
    outside = torch.empty_like(messages.inside)
    outside[model.tree.root] = model.root
    transitions = torch.zeros_like(model.transitions)
    for level in model.tree.levels[1:]:
        nodes = torch.tensor(level)
        parents = torch.tensor([model.tree.parents[node] for node in level])
        belief = outside[parents] * messages.inside[parents]
        belief /= messages.sent[nodes].clamp_min(_TINY)
        belief /= belief.sum(2, keepdim=True).clamp_min(_TINY)
        below = torch.bmm(belief, model.transitions[nodes])
        outside[nodes] = below
        inside = messages.inside[nodes]
        belief /= (below * inside).sum(2, keepdim=True).clamp_min(_TINY)
        transitions[nodes] = torch.bmm(belief.transpose(1, 2), inside)
    posterior = outside * messages.inside
    posterior /= posterior.sum(2, keepdim=True).clamp_min(_TINY)
    one_hot = torch.zeros(model.tree.size, len(classes), model.classes)
    one_hot.scatter_(2, classes.T.to(torch.int64)[:, :, None], 1.0)
    return ExpectedCounts(
        root=posterior[model.tree.root].sum(0),
        transitions=transitions * model.transitions,
        leaves=torch.bmm(posterior.transpose(1, 2), one_hot),
    )


def _step_size(step: int, total: int, settings: LearningSettings) -> float:
    """Falls geometrically from the first to the last step size."""
    ratio = settings.last_step / settings.first_step
    return float(settings.first_step * ratio ** (step / max(1, total - 1)))


def _averaged(counts: ExpectedCounts | None, fresh: ExpectedCounts, size: float, scale: float) -> ExpectedCounts:
    """Move running counts by ``size`` towards ``fresh``, both in units of the whole data set."""
    if counts is None:
        return ExpectedCounts(
            root=fresh.root * scale,
            transitions=fresh.transitions * scale,
            leaves=fresh.leaves * scale,
        )
    return ExpectedCounts(
        root=torch.lerp(counts.root, fresh.root * scale, size),
        transitions=torch.lerp(counts.transitions, fresh.transitions * scale, size),
        leaves=torch.lerp(counts.leaves, fresh.leaves * scale, size),
    )


def _normalised(tree: Tree, counts: ExpectedCounts, marginal: torch.Tensor, settings: LearningSettings) -> HiddenTree:
    """Parameters from counts; pseudo-counts pull leaves towards the variable's marginal, transitions to its states'."""
    use = counts.transitions.sum(1, keepdim=True)
    prior = use / use.sum(2, keepdim=True).clamp_min(_TINY)
    transitions = counts.transitions + settings.transition_pseudo_count * (0.9 * prior + 0.1 / settings.states)
    leaves = counts.leaves + settings.leaf_pseudo_count * marginal[:, None, :]
    root = counts.root + 1.0 / settings.states
    return HiddenTree(
        tree=tree,
        root=root / root.sum(),
        transitions=transitions / transitions.sum(2, keepdim=True),
        leaves=leaves / leaves.sum(2, keepdim=True),
    )


def _marginals(classes: torch.Tensor, alphabet: int) -> torch.Tensor:
    """Smoothed class frequencies of every variable, ``[variables, classes]``."""
    one_hot = torch.zeros(classes.shape[1], alphabet)
    ones = torch.ones(classes.shape[::-1])
    one_hot.scatter_add_(1, classes.T.to(torch.int64), ones)
    overall = one_hot.sum(0) / one_hot.sum()
    smoothed = one_hot + overall + 0.01 / alphabet
    return smoothed / smoothed.sum(1, keepdim=True)


def _random_tree(tree: Tree, marginal: torch.Tensor, states: int, generator: torch.Generator) -> HiddenTree:
    """Leaves near the marginals, transitions that favour keeping the state."""
    variables, alphabet = marginal.shape
    noise = torch.rand(variables, states, alphabet, generator=generator) + 0.3
    leaves = marginal[:, None] * noise
    transitions = torch.rand(variables, states, states, generator=generator) + 0.3
    transitions += torch.eye(states) * states * 0.2
    return HiddenTree(
        tree=tree,
        root=torch.full((states,), 1.0 / states),
        transitions=transitions / transitions.sum(2, keepdim=True),
        leaves=leaves / leaves.sum(2, keepdim=True),
    )
