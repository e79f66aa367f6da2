"""Which release the rolling upgrade begins with, and what is said where the clone has not its history."""

from __future__ import annotations

import re

import pytest
from plugins.previous import NAMED_IN, commit_of, taken_out


def test_one_commit_is_named_in_full(root):
    assert re.fullmatch(r"[0-9a-f]{40}", commit_of(root))


def test_a_clone_without_it_skips_and_says_what_to_do(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / NAMED_IN).write_text(f"# a commit that nobody has\n{'0' * 40}\n")
    with pytest.raises(pytest.skip.Exception, match=r"tests/previous_release names 000000000000, which this clone has not"):
        taken_out(tmp_path, tmp_path / "out")
