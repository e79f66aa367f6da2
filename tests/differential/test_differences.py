"""The wanted differences are told to people as they are in the data."""

from __future__ import annotations

import re

from differential.differences import DIFFERENCES


def test_the_page_says_every_difference_and_no_other(root):
    page = (root / "docs" / "kubectl-drain.md").read_text()
    assert [title.lower() for title in re.findall("^## (.+)$", page, re.MULTILINE)] == [d.name.lower() for d in DIFFERENCES]
    for difference in DIFFERENCES:
        told = f"- kubectl {difference.kubectl}.\n- remediator {difference.ours}.\n- Why: {difference.why}.\n"
        assert told in page


def test_no_difference_is_named_twice():
    names = [difference.name for difference in DIFFERENCES]
    assert len(names) == len(set(names))
