"""Cluster states out of seeds: the same seed makes the same state, on every machine.

In comes a seed; out comes a ``State``. The first seeds take one theme each, in order, so that everything is shown at least once; later ones
mix two themes. Around the theme stand one to three ordinary workloads, so that it is seen what a blocked pod means for its neighbours.

A state either comes to an end well within its time, or never does by itself; none is close to its time-out, which would make the outcome
a matter of speed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from differential.states import Budget, Flags, Form, Owner, Selects, State, Workload

__all__ = ["SEEDS", "THEMES", "generate"]

SEEDS = range(52)
_AMPLE = 120
_RETRY = 6
"""kubectl sleeps 5 s after each refused eviction."""
_STUCK = 24


@dataclass
class _Draft:
    rng: random.Random
    workloads: list[Workload] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    flags: Flags = field(default_factory=Flags)
    stuck: bool = False

    def pods(self, kind: str, owner: Owner = Owner.DEPLOYMENT, **more: object) -> Workload:
        made = Workload(name=f"{kind}-{len(self.workloads)}", owner=owner, **more)
        self.workloads.append(made)
        return made

    def budget(self, form: Form, amount: int | str, *workloads: Workload, **more: object) -> None:
        names = tuple(w.name for w in workloads)
        self.budgets.append(Budget(name=f"budget-{len(self.budgets)}", form=form, amount=amount, workloads=names, **more))

    def ask(self, **flags: object) -> None:
        self.flags = replace(self.flags, **flags)

    def few(self, low: int = 1, high: int = 3) -> int:
        return self.rng.randint(low, high)


Theme = Callable[[_Draft], None]


# --- budgets ---------------------------------------------------------------------------------------------------------


def no_budget(d: _Draft) -> None:
    d.pods("web", here=d.few(2, 4), there=d.few(0, 1))
    d.pods("db", Owner.STATEFUL_SET, here=d.few(1, 3))


def one_at_a_time(d: _Draft) -> None:
    web = d.pods("web", here=2, there=1)
    d.budget(Form.MIN, 2, web)


def share_that_stays(d: _Draft) -> None:
    web = d.pods("web", here=3, there=d.few(0, 1))
    d.budget(Form.MIN, "50%", web)


def one_may_go(d: _Draft) -> None:
    db = d.pods("db", Owner.STATEFUL_SET, here=2, there=d.few(0, 1))
    d.budget(Form.MAX, 1, db)


def share_may_go(d: _Draft) -> None:
    web = d.pods("web", here=4)
    d.budget(Form.MAX, d.rng.choice(["25%", "50%"]), web)


def none_may_go(d: _Draft) -> None:
    db = d.pods("db", Owner.STATEFUL_SET, here=d.few(1, 2), there=1)
    d.budget(Form.MAX, d.rng.choice([0, "0%"]), db)
    d.stuck = True


def all_must_stay(d: _Draft) -> None:
    web = d.pods("web", here=d.few(1, 2), there=1)
    d.budget(Form.MIN, "100%", web)
    d.stuck = True


def single_replica(d: _Draft) -> None:
    web = d.pods("web", here=1)
    d.budget(Form.MIN, 1, web)
    d.stuck = True


def more_than_there_are(d: _Draft) -> None:
    web = d.pods("web", here=d.few(1, 2), there=1)
    d.budget(Form.MIN, 99, web)
    d.stuck = True


def two_budgets(d: _Draft) -> None:
    web = d.pods("web", here=2, there=1)
    d.budget(Form.MIN, 1, web)
    d.budget(Form.MAX, 1, web)


def whole_namespace(d: _Draft) -> None:
    d.pods("web", here=2, there=1)
    d.pods("db", Owner.STATEFUL_SET, here=1, there=1)
    d.budget(Form.MIN, 2, selects=Selects.EVERYTHING)


def nobodys_budget(d: _Draft) -> None:
    d.pods("web", here=2)
    d.budget(Form.MAX, 0, selects=Selects.NOTHING)


def sick_and_let_go(d: _Draft) -> None:
    web = d.pods("web", here=1, unready=True)
    d.budget(Form.MIN, 1, web, always_allow=True)


def sick_and_held(d: _Draft) -> None:
    web = d.pods("web", here=1, there=1, unready=True)
    d.budget(Form.MIN, 2, web)
    d.stuck = True


def sick_but_enough_are_well(d: _Draft) -> None:
    web = d.pods("web", here=1, there=2, unready=True)
    d.budget(Form.MIN, 2, web)


def sick_elsewhere(d: _Draft) -> None:
    web = d.pods("web", here=1, there=2, unready_there=True)
    d.budget(Form.MIN, 2, web)
    d.stuck = True


def sick_first_then_the_others(d: _Draft) -> None:
    web = d.pods("web", here=2, there=1, unready=True)
    d.budget(Form.MIN, 2, web)


def nobody_knows_how_many(d: _Draft) -> None:
    """Whoever looks after budgets cannot ask a custom resource how many pods it wants."""
    clone = d.pods("clone", Owner.CUSTOM, here=2)
    d.budget(Form.MAX, 1, clone)
    d.stuck = True


def pending_under_a_budget(d: _Draft) -> None:
    web = d.pods("slow", here=d.few(1, 2), pending=True)
    d.budget(Form.MIN, 99, web)


# --- owners ----------------------------------------------------------------------------------------------------------


def nobodys_pod(d: _Draft) -> None:
    d.pods("bare", Owner.NOBODY, here=d.few(1, 2))


def nobodys_pod_by_force(d: _Draft) -> None:
    nobodys_pod(d)
    d.ask(force=True)


def daemon_set_gone(d: _Draft) -> None:
    d.pods("orphan", Owner.DAEMON_SET_GONE)


def daemon_set_gone_by_force(d: _Draft) -> None:
    daemon_set_gone(d)
    d.ask(force=True)


def finished_job(d: _Draft) -> None:
    d.pods("job", Owner.JOB, finished=True, emptydir=d.rng.random() < 0.5)


def custom_controller(d: _Draft) -> None:
    d.pods("clone", Owner.CUSTOM, here=d.few(1, 3))


def kubelets_own(d: _Draft) -> None:
    d.pods("static", Owner.MIRROR)
    d.pods("agent", Owner.DAEMON_SET, emptydir=True)


# --- pods ------------------------------------------------------------------------------------------------------------


def emptydir(d: _Draft) -> None:
    d.pods("cache", here=d.few(1, 2), emptydir=True)


def emptydir_may_go(d: _Draft) -> None:
    emptydir(d)
    d.ask(delete_emptydir_data=True)


def two_reasons(d: _Draft) -> None:
    nobodys_pod(d)
    d.budget(Form.MIN, "100%", d.pods("web", here=1, there=1))


def finished_and_nobodys(d: _Draft) -> None:
    d.pods("done", Owner.NOBODY, finished=True, emptydir=True)
    d.pods("orphan", Owner.DAEMON_SET_GONE, finished=True)


def terminating(d: _Draft) -> None:
    d.pods("leaving", here=d.few(1, 2), terminating=True, stop_after=12)


def finalizer(d: _Draft) -> None:
    d.pods("held", here=1, finalizer=True, terminating=d.rng.random() < 0.5)
    d.stuck = True


def ending_namespace(d: _Draft) -> None:
    d.pods("ending", here=d.few(1, 2), ending_namespace=True, stop_after=12)


def slow_stop(d: _Draft) -> None:
    web = d.pods("slow", here=2, stop_after=3)
    d.budget(Form.MAX, 1, web)


def grace_period(d: _Draft) -> None:
    d.pods("slow", here=d.few(1, 2), stop_after=2)
    d.ask(grace_period=d.rng.choice([1, 5]))


def grace_of_nothing(d: _Draft) -> None:
    d.pods("db", Owner.STATEFUL_SET, here=1)
    d.ask(grace_period=0)


def comes_back(d: _Draft) -> None:
    d.pods("local", here=1, tolerates_cordon=True)


def comes_late(d: _Draft) -> None:
    """Bound by a scheduler that had not seen the cordon."""
    d.pods("slow", here=1, stop_after=4)
    d.pods("late", Owner.CUSTOM, here=1, late=True)


def critical(d: _Draft) -> None:
    d.pods("dns", here=2, critical=True)
    d.pods("web", here=1)


def too_slow(d: _Draft) -> None:
    d.pods("slow", here=1, stop_after=60)
    d.stuck = True


THEMES: tuple[Theme, ...] = (
    nobody_knows_how_many,
    no_budget,
    one_at_a_time,
    share_that_stays,
    one_may_go,
    share_may_go,
    none_may_go,
    all_must_stay,
    single_replica,
    more_than_there_are,
    two_budgets,
    whole_namespace,
    nobodys_budget,
    sick_and_let_go,
    sick_and_held,
    sick_but_enough_are_well,
    pending_under_a_budget,
    nobodys_pod,
    nobodys_pod_by_force,
    daemon_set_gone,
    daemon_set_gone_by_force,
    finished_job,
    custom_controller,
    kubelets_own,
    emptydir,
    emptydir_may_go,
    finished_and_nobodys,
    terminating,
    finalizer,
    ending_namespace,
    slow_stop,
    grace_period,
    grace_of_nothing,
    comes_back,
    critical,
    too_slow,
    sick_elsewhere,
    sick_first_then_the_others,
    comes_late,
    two_reasons,
)
_ALONE = (comes_late, nobody_knows_how_many)
"""A drain that is refused has no first pod on its way out; and kubectl takes two minutes for the other."""


def generate(seed: int) -> State:
    """The state of that seed."""
    rng = random.Random(seed)
    draft = _Draft(rng)
    THEMES[seed % len(THEMES)](draft)
    if seed >= len(THEMES):
        rng.choice([theme for theme in THEMES if theme not in _ALONE])(draft)
    for _ in range(rng.randint(1, 2)):
        _neighbour(draft)
    if draft.stuck:
        draft.ask(timeout=_STUCK + _RETRY * max(w.here for w in draft.workloads) if _gradual(draft) else _STUCK)
    return State(seed=seed, workloads=tuple(draft.workloads), budgets=tuple(draft.budgets), flags=draft.flags)


def _neighbour(d: _Draft) -> None:
    """Something ordinary, without a budget of its own."""
    owner = d.rng.choice([Owner.DEPLOYMENT, Owner.DEPLOYMENT, Owner.STATEFUL_SET, Owner.CUSTOM, Owner.DAEMON_SET])
    one_each = owner is Owner.DAEMON_SET
    d.pods("other", owner, here=1 if one_each else d.few(1, 2), stop_after=0 if one_each else d.rng.choice([0, 0, 1]))


def _gradual(d: _Draft) -> bool:
    """Whether any pods have to go one after the other, which takes kubectl its time."""
    return any(b.amount not in (0, "0%", 99, "100%") for b in d.budgets)
