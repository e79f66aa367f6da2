"""The command line: one file a group of commands, imported only when it is asked for.

Comes in: arguments, ``REMEDIATOR_*`` and the settings file. Goes out: data on stdout, everything else on stderr, and an exit code
(see ``remediator.cli.exits``). This module knows only names and summaries, so that ``--help`` pays for click and nothing else.
"""

from __future__ import annotations

from remediator import __version__
from remediator.cli.frame import Entry, Root

__all__ = ["cli", "main"]

_COMMANDS = {
    "Run it": {
        "serve": Entry("serve", "serve", "Run the daemon."),
        "demo": Entry("demo", "demo", "Play an incident on a simulated cluster, from alert to healed."),
    },
    "Understand": {
        "status": Entry("status", "status", "How the daemon stands: mode, pauses, connections, queue, what waits for approval."),
        "why": Entry("why", "why", "Tell in words what happened to an alert, a run or a target, and why."),
        "runs": Entry("runs", "runs", "List, show, watch, approve, reject, cancel and undo runs."),
        "alerts": Entry("alerts", "alerts", "List open episodes and what was decided on them."),
        "deliveries": Entry("deliveries", "deliveries", "List and show webhook calls."),
        "changes": Entry("changes", "changes", "List what was altered in the cluster and not put back."),
        "bgp": Entry("bgp", "bgp", "Show who announces what by BGP."),
        "report": Entry("report", "report", "Tell what the record says over time."),
        "journal": Entry("journal", "journal", "Verify, export, import and prune the record of everything."),
    },
    "Act": {
        "run": Entry("run", "run", "Start a playbook by hand, through the same gates as an alert."),
        "pause": Entry("pause", "pause", "Stop starting anything: everything, one playbook or one target."),
        "resume": Entry("pause", "resume", "End a pause."),
        "breaker": Entry("breaker", "breaker", "Show and reset the breaker, which too many runs or failures open."),
        "alert": Entry("alerts", "alert", "Send alerts to the daemon, as Alertmanager would."),
    },
    "Write playbooks": {
        "check": Entry("check", "check", "Check playbooks, their tests and settings; print every problem."),
        "test": Entry("test", "test", "Run playbook tests on the simulated cluster."),
        "match": Entry("match", "match", "Ask which playbook takes an alert, and what its gates say now."),
        "backtest": Entry("backtest", "backtest", "Replay recorded deliveries through other playbooks or settings."),
        "playbooks": Entry("library", "playbooks", "List and show the loaded playbooks; let a demoted one act again."),
        "actions": Entry("library", "actions", "List and show the actions that steps may use."),
        "gates": Entry("library", "gates", "List the gates that every run passes."),
        "scenarios": Entry("demo", "scenarios", "List the incidents that the demo can play."),
        "rbac": Entry("rbac", "rbac", "Print the least Roles for playbooks, each rule with who needs it."),
        "schema": Entry("schema", "schema", "Print the JSON Schema of playbooks, settings or playbook tests."),
    },
    "Other": {
        "completion": Entry("about", "completion", "Print the completion script of a shell."),
        "version": Entry("about", "version", "Print the version."),
    },
}

cli = Root(
    name="remediator",
    help="Heals a Kubernetes network: alerts in, careful and recorded actions out.",
    sections=_COMMANDS,
    version=__version__,
    examples=["remediator demo --once", "remediator why CiliumAgentDown", "remediator run --help"],
)


def main() -> None:
    """The console script; ends the process with an exit code of ``remediator.cli.exits``."""
    cli.main(prog_name="remediator")
