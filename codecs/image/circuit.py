"""Hidden Chow-Liu trees in floating point: likelihoods, conditionals, samples and missing pixels.

Each variable (pixel) has a latent state; latent states form a tree, and a pixel depends on its own state alone
(Liu and Van den Broeck, 2021, section 4). Pixels are seen through their class, see :mod:`.grey_classes`.
This module answers questions about a model. Coding uses the integers of :mod:`.integer_circuit` instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...formats.errors import InvalidParameter
from .structure import Tree

__all__ = ["MISSING", "HiddenTree", "Messages", "downward", "log_leaves", "upward"]

MISSING = -1
"""Marks a class that is not observed."""

_TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """What the upward pass leaves for the downward pass; all ``[variables, images, states]``.

    ``inside`` is proportional to the likelihood of everything at and below a variable given its state, ``sent`` to
    what it told its parent, and ``log_likelihood`` ``[images]`` is in nats.
    """

    inside: torch.Tensor
    sent: torch.Tensor
    log_likelihood: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenTree:
    """A hidden Chow-Liu tree over ``tree.size`` variables with ``states`` latent states and ``classes`` classes.

    ``root`` is ``[states]``, ``transitions`` ``[variables, parent state, state]`` (the root's row is unused) and
    ``leaves`` ``[variables, state, class]``; rows sum to one.
    """

    tree: Tree
    root: torch.Tensor
    transitions: torch.Tensor
    leaves: torch.Tensor

    @property
    def states(self) -> int:
        return self.leaves.shape[1]

    @property
    def classes(self) -> int:
        return self.leaves.shape[2]

    def log_likelihood(self, classes: torch.Tensor) -> torch.Tensor:
        """Natural log-likelihood of each row of ``classes`` ``[images, variables]``; missing ones are summed out."""
        return upward(self, classes).log_likelihood

    def conditional(self, classes: torch.Tensor) -> torch.Tensor:
        """Distribution of every variable given the observed ones, ``[images, variables, classes]``.

        For an observed variable this is its distribution given all *others* that are observed.
        """
        messages = upward(self, classes)
        outside = downward(self, messages)
        leaves = log_leaves(self, classes).exp()
        # the evidence of the variable itself is taken out of its posterior
        others = outside * messages.inside / leaves.clamp_min(_TINY)
        others = others / others.sum(2, keepdim=True)
        return torch.bmm(others, self.leaves).transpose(0, 1)

    def sample(self, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Fill the missing entries of ``classes`` with a joint sample given the others; int64, same shape."""
        messages = upward(self, classes)
        states = torch.empty(self.tree.size, len(classes), dtype=torch.int64)
        filled = classes.to(torch.int64).clone()
        for variable in self.tree.preorder:
            parent = self.tree.parents[variable]
            prior = self.root if parent < 0 else self.transitions[variable][states[parent]]
            weights = (prior * messages.inside[variable]).clamp_min(_TINY)
            states[variable] = torch.multinomial(weights, 1, generator=generator)[:, 0]
            drawn = torch.multinomial(self.leaves[variable][states[variable]], 1, generator=generator)[:, 0]
            unknown = filled[:, variable] == MISSING
            filled[unknown, variable] = drawn[unknown]
        return filled

    def inpaint(self, classes: torch.Tensor) -> torch.Tensor:
        """Fill each missing entry of ``classes`` with its most probable class given the observed ones."""
        likeliest = self.conditional(classes).argmax(2)
        return torch.where(classes == MISSING, likeliest, classes.to(torch.int64))


def log_leaves(model: HiddenTree, classes: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each observation given each state, ``[variables, images, states]``; 0 where missing."""
    if classes.dim() != 2 or classes.shape[1] != model.tree.size:
        raise InvalidParameter(f"classes must be [images, {model.tree.size}], got {list(classes.shape)}")
    if int(classes.min()) < MISSING or int(classes.max()) >= model.classes:
        raise InvalidParameter(f"classes must lie in {MISSING}..{model.classes - 1}")
    by_class = model.leaves.clamp_min(_TINY).log().transpose(1, 2)
    by_class = torch.cat([by_class, torch.zeros_like(by_class[:, :1])], 1)
    observed = classes.to(torch.int64).T
    index = torch.where(observed == MISSING, model.classes, observed)
    return by_class.gather(1, index[:, :, None].expand(-1, -1, model.states))


def upward(model: HiddenTree, classes: torch.Tensor) -> Messages:
    """One message from every variable to its parent, deepest level first."""
    inside = log_leaves(model, classes)
    peak = inside.amax(2, keepdim=True)
    scale = peak[:, :, 0].sum(0).double()
    inside = (inside - peak).exp_()
    sent = torch.ones_like(inside)
    for level in reversed(model.tree.levels[1:]):
        nodes = torch.tensor(level)
        messages = torch.bmm(inside[nodes], model.transitions[nodes].transpose(1, 2))
        sent[nodes] = messages
        for group in _distinct_parents(model.tree, level):
            positions = torch.tensor([level.index(node) for node in group])
            parents = torch.tensor([model.tree.parents[node] for node in group])
            product = inside[parents] * messages[positions]
            total = product.amax(2, keepdim=True).clamp_min(_TINY)
            scale += total[:, :, 0].double().log().sum(0)
            inside[parents] = product / total
    evidence = (inside[model.tree.root] * model.root).sum(1)
    return Messages(inside=inside, sent=sent, log_likelihood=scale + evidence.clamp_min(_TINY).double().log())


def downward(model: HiddenTree, messages: Messages) -> torch.Tensor:
    """What the rest of the tree says of each variable's state, up to scale: ``[variables, images, states]``."""
    outside = torch.empty_like(messages.inside)
    outside[model.tree.root] = model.root
    for level in model.tree.levels[1:]:
        nodes = torch.tensor(level)
        outside[nodes] = torch.bmm(_without_child(model, messages, outside, level), model.transitions[nodes])
    return outside


def _without_child(
    model: HiddenTree, messages: Messages, outside: torch.Tensor, level: tuple[int, ...]
) -> torch.Tensor:
    """For each child in ``level``, its parent's belief with the child's own message taken out, normalised."""
    nodes = torch.tensor(level)
    parents = torch.tensor([model.tree.parents[node] for node in level])
    belief = outside[parents] * messages.inside[parents] / messages.sent[nodes].clamp_min(_TINY)
    return belief / belief.sum(2, keepdim=True).clamp_min(_TINY)


def _distinct_parents(tree: Tree, level: tuple[int, ...]) -> list[list[int]]:
    """Split ``level`` into groups in which no two variables share a parent."""
    groups: list[list[int]] = []
    seen: dict[int, int] = {}
    for node in level:
        rank = seen.get(tree.parents[node], 0)
        seen[tree.parents[node]] = rank + 1
        if rank == len(groups):
            groups.append([])
        groups[rank].append(node)
    return groups
