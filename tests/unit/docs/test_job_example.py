"""The example of ``job.run`` is one that can be loaded."""

from __future__ import annotations

import re

from remediator.actions import actions
from remediator.gates import gates
from remediator.playbook import Library

PLAYBOOK = "apiVersion: remediator.dev/v1\nkind: Playbook\nmetadata: {name: example}\nladder:\n- name: look\n  steps:\n"


def test_the_step_and_its_template_fit(root, tmp_path):
    page = (root / "docs" / "actions.md").read_text().partition("## `job.run`")[2].partition("\n## ")[0]
    step, template = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "path-check.yaml").write_text(template)
    (tmp_path / "p.yaml").write_text(PLAYBOOK + f"  {step}")
    (playbook,) = Library.load([tmp_path], actions=actions(), gates=gates()).playbooks
    assert playbook.ladder[0].steps[0].files["template"]["kind"] == "Job"
