"""Makes prometheusrule.yaml (for the Prometheus operator) from rules.yaml: the same text, one level deeper. Run by ``make rules``.

Likewise self-prometheusrule.yaml from self.yaml, the alerts about remediator itself. ``--runbooks URL``: first lets every ``runbook_url``
in both and in the tests begin with URL, where the pages of docs/ are served.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = """\
# Made from {source} by make rules; change that file. A Prometheus whose ruleSelector wants a label (release: ...) gets it by kustomize.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: remediator, app.kubernetes.io/part-of: remediator}}
spec:
"""
MADE = {"rules.yaml": ("prometheusrule.yaml", "remediator"), "self.yaml": ("self-prometheusrule.yaml", "remediator-self")}
"""Rule file -> the file and the name of its PrometheusRule."""
RUNBOOK = re.compile(r"(runbook_url: \"?)\S+?(?=/(?:playbooks/[a-z0-9-]+|alerts|self-alerts)\.md)")


def prometheusrule(rules: str, source: str = "rules.yaml") -> str:
    """The PrometheusRule of a rule file's text."""
    body = rules[rules.index("groups:") :]
    return HEAD.format(source=source, name=MADE[source][1]) + "".join(
        f"  {line}" if line.strip() else line for line in body.splitlines(keepends=True)
    )


def with_runbooks(text: str, url: str) -> str:
    """``text`` with every runbook_url below ``url``."""
    return RUNBOOK.sub(lambda found: found[1] + url.rstrip("/"), text)


def main(folder: Path = HERE) -> None:
    """Write what has to be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runbooks", metavar="URL", default="", help="as https://git.example/remediator/blob/main/docs")
    url = parser.parse_args().runbooks
    for path in (*(folder / name for name in MADE), *sorted((folder / "tests").glob("*.yaml"))) if url else ():
        path.write_text(with_runbooks(path.read_text(), url))
    for source, (made, _) in MADE.items():
        (folder / made).write_text(prometheusrule((folder / source).read_text(), source))


if __name__ == "__main__":
    main()
