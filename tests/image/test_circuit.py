"""Hidden Chow-Liu trees answer questions exactly: checked against sums over every configuration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from codeckit.codecs.image.circuit import MISSING, HiddenTree
from codeckit.codecs.image.learning import LearningSettings, learn
from codeckit.codecs.image.structure import Tree, chow_liu_tree
from codeckit.codecs.run_context import RunContext
from codeckit.formats.errors import CorruptFile, InvalidParameter


def _enumerated(model: HiddenTree, classes: list[int]) -> float:
    """Probability of an assignment, summed over all states of all variables."""
    total = 0.0
    for states in itertools.product(range(model.states), repeat=model.tree.size):
        product = 1.0
        for variable, state in enumerate(states):
            parent = model.tree.parents[variable]
            prior = model.root[state] if parent < 0 else model.transitions[variable, states[parent], state]
            product *= float(prior)
            if classes[variable] != MISSING:
                product *= float(model.leaves[variable, state, classes[variable]])
        total += product
    return total


@pytest.mark.parametrize("classes", [[0, 1, 2, 3, 0, 1], [3, MISSING, 0, MISSING, 2, 2], [MISSING] * 6])
def test_log_likelihood_equals_the_sum_over_all_states(random_tree: HiddenTree, classes: list[int]) -> None:
    found = random_tree.log_likelihood(torch.tensor([classes]))
    assert math.exp(float(found)) == pytest.approx(_enumerated(random_tree, classes), rel=1e-5)


def test_conditionals_equal_ratios_of_likelihoods(random_tree: HiddenTree) -> None:
    given = [3, MISSING, 0, MISSING, 2, 2]
    found = random_tree.conditional(torch.tensor([given]))[0]
    for variable in range(6):
        without = [*given[:variable], MISSING, *given[variable + 1 :]]
        evidence = _enumerated(random_tree, without)
        for value in range(random_tree.classes):
            filled = [*given[:variable], value, *given[variable + 1 :]]
            assert float(found[variable, value]) == pytest.approx(_enumerated(random_tree, filled) / evidence, rel=1e-4)


def test_samples_follow_the_distribution_and_keep_what_is_given(random_tree: HiddenTree) -> None:
    given = torch.full((20_000, 6), MISSING)
    given[:, 2] = 1
    drawn = random_tree.sample(given, torch.Generator().manual_seed(0))
    assert (drawn[:, 2] == 1).all()
    expected = random_tree.conditional(given[:1])[0, 5]
    observed = torch.bincount(drawn[:, 5], minlength=4) / len(drawn)
    assert torch.allclose(observed, expected, atol=0.015)


def test_inpainting_takes_the_likeliest_class_and_leaves_the_rest(random_tree: HiddenTree) -> None:
    given = torch.tensor([[3, MISSING, 0, MISSING, 2, 2]])
    filled = random_tree.inpaint(given)
    likeliest = random_tree.conditional(given).argmax(2)
    assert filled[0, [0, 2, 4, 5]].tolist() == [3, 0, 2, 2]
    assert filled[0, [1, 3]].tolist() == likeliest[0, [1, 3]].tolist()


def test_classes_out_of_range_are_refused(random_tree: HiddenTree) -> None:
    with pytest.raises(InvalidParameter, match=r"-1\.\.3"):
        random_tree.log_likelihood(torch.tensor([[4, 0, 0, 0, 0, 0]]))


def test_chow_liu_finds_a_chain_and_roots_it_in_the_middle() -> None:
    generator = np.random.default_rng(0)
    chain = [generator.integers(0, 3, 5000)]
    for _ in range(6):
        flip = generator.random(5000) < 0.2
        chain.append(np.where(flip, generator.integers(0, 3, 5000), chain[-1]))
    tree = chow_liu_tree(np.stack(chain, 1).astype(np.uint8), 3)
    assert tree.root == 3
    assert tree.parents == (1, 2, 3, -1, 3, 4, 5)
    assert len(tree.levels) == 4


@pytest.mark.parametrize("parents", [(0, 1), (-1, -1), (-1, 2, 1), (-1, 5)])
def test_what_is_not_a_tree_is_refused(parents: tuple[int, ...]) -> None:
    with pytest.raises(CorruptFile):
        Tree(parents=parents)


def test_learning_finds_more_than_half_of_what_a_known_model_knows(random_tree: HiddenTree) -> None:
    unknown = torch.full((4000, 6), MISSING)
    data = random_tree.sample(unknown, torch.Generator().manual_seed(2))
    settings = LearningSettings(states=3, epochs=30, batch=750)
    learned = learn(data[:3000].to(torch.uint8), random_tree.tree, 4, settings, RunContext())
    best = float(random_tree.log_likelihood(data[3000:]).mean())
    found = float(learned.log_likelihood(data[3000:]).mean())
    independent = sum(
        float((torch.bincount(data[:3000, v], minlength=4) / 3000).log()[data[3000:, v]].mean()) for v in range(6)
    )
    assert found > independent + 0.5 * (best - independent)
