from __future__ import annotations

import re

from remediator.sim import all_scenarios


def test_the_page_has_every_scenario_as_it_is(root):
    page = (root / "docs" / "scenarios.md").read_text()
    rows = re.findall(r"^\| (`[a-z-]+` \| .* \| .* \| (?:yes|no)) \|$", page, re.MULTILINE)
    assert rows == [
        f"`{one.name}` | {one.broken} | {one.truth.cure} | {'yes' if one.truth.healable else 'no'}"
        for one in sorted(all_scenarios(), key=lambda one: one.name)
    ]
