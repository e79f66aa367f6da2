"""The states that both are to drain: the same on every machine, and all of what a drain meets is among them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from differential import generate as generator
from differential.generate import SEEDS, THEMES, generate
from differential.states import FEATURES


def test_a_seed_makes_the_same_state_every_time_and_everywhere(root):
    told = (
        f"import sys; sys.path.insert(0, {str(root / 'tests')!r}); from differential.generate import *; print([generate(s) for s in SEEDS])"
    )
    done = subprocess.run([sys.executable, "-c", told], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str([generate(seed) for seed in SEEDS])


def test_no_two_seeds_make_the_same_state():
    shapes = Counter((s.workloads, s.budgets, s.flags) for s in map(generate, SEEDS))
    assert max(shapes.values()) == 1
    assert len(shapes) >= 40


def test_every_feature_is_shown_by_some_state():
    shown = frozenset().union(*(generate(seed).features() for seed in SEEDS))
    assert shown == FEATURES


def test_every_theme_has_a_state_and_some_are_mixed():
    assert len(THEMES) < len(SEEDS)
    named = {value for name, value in vars(generator).items() if callable(value) and getattr(value, "__module__", "") == generator.__name__}
    helpers = {generator.generate, generator._neighbour, generator._gradual, generator._Draft}
    assert named - helpers == set(THEMES)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_state_holds_together(seed):
    state = generate(seed)
    names = [w.name for w in state.workloads]
    assert len(names) == len(set(names))
    assert all(name in names for budget in state.budgets for name in budget.workloads)
    assert sum(w.here for w in state.workloads) <= 16
    assert all(not w.there or w.replaced for w in state.workloads)
