"""Three replicas that are killed, stopped and cut off at random, while incidents come in; then ``invariants.py`` judges.

The strikes come from a seed, which the test prints: ``JEPSEN_SEED=17`` repeats it. The long form:
``JEPSEN_INCIDENTS=500 JEPSEN_SECONDS=600 make test-long ARGS="--timeout 2400 -s tests/jepsen"``.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter

import pytest
from jepsen.invariants import breaches
from jepsen.nemesis import schedule
from jepsen.trial import NODES, Trial

INCIDENTS = int(os.environ.get("JEPSEN_INCIDENTS", "40"))
SECONDS = float(os.environ.get("JEPSEN_SECONDS", "30"))
pytestmark = [pytest.mark.postgres, pytest.mark.long, pytest.mark.timeout(SECONDS * 2 + 600)]


async def test_the_invariants_hold(postgres_server, postgres_database, simulation_process, tmp_path, record_property):
    if not postgres_server.stoppable:
        pytest.skip("the PostgreSQL of these tests is somebody else's, so it is not stopped")
    seed = int(os.environ.get("JEPSEN_SEED", "0")) or random.randrange(1, 1_000_000)
    sys.stdout.write(f"JEPSEN_SEED={seed}\n")
    cluster = simulation_process(rate=10, nodes=NODES)
    async with Trial(tmp_path, postgres_server, postgres_database, cluster, seed) as trial:
        strikes = schedule(seed, SECONDS)
        await trial.play(strikes, incidents=INCIDENTS, seconds=SECONDS)
        record = await trial.read()
        found = breaches(record)
        assert all(call.sender for call in record.calls if call.request_id), "of each change it is known who sent it"
        assert found == [], "\n".join([*found, trial.story()])
    ends = Counter(f"{run['state']}, {run['reason']}" for run in (entries[-1].data for entries in record.runs.values()))
    counts = {
        "seed": seed,
        "strikes": len(strikes),
        "leaders": len(record.of("leader")),
        "deliveries": len(record.of("delivery")),
        "answers": dict(Counter(answer.status for answer in record.answers)),
        "calls": sum(call.holder is None for call in record.calls),
        "runs": dict(ends),
    }
    sys.stdout.write(f"{counts}\n")
    record_property("trial", str(counts))
    # What a gate refuses in mid-run ends otherwise, and the mark of an earlier run may still be there; but nothing is left to people.
    assert {words.partition(",")[0] for words in ends} <= {"healed", "failed", "cancelled"}, counts
    assert ends["healed, healed"] >= 0.6 * ends.total(), counts
    assert ends.total() >= 0.7 * INCIDENTS, "most incidents last until their run has ended"
