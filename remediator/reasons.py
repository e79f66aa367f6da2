"""The closed list of reason codes, each with its one sentence.

A code is spelled the same in records, metrics, logs, Events, the CLI and docs/reasons.md (which a test keeps equal to this list).
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason", "event_reason", "sentence"]


class Reason(StrEnum):
    """Why something was refused, or how it ended."""

    # refusals
    PAUSED = "paused"
    OUTSIDE_WINDOW = "outside_window"
    MAINTENANCE = "maintenance"
    OBSERVE_ONLY = "observe_only"
    COOLDOWN = "cooldown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RATE_LIMITED = "rate_limited"
    CONCURRENCY = "concurrency"
    TARGET_BUSY = "target_busy"
    TARGET_LEASED = "target_leased"
    TARGET_MISSING = "target_missing"
    TARGET_AMBIGUOUS = "target_ambiguous"
    TARGET_CHANGED = "target_changed"
    PROTECTED = "protected"
    DISTURBANCE_BUDGET = "disturbance_budget"
    BREAKER_OPEN = "breaker_open"
    PARTITION = "partition"
    STORM = "storm"
    QUORUM = "quorum"
    SELF = "self"
    ROUTE_COVERAGE = "route_coverage"
    PDB = "pdb"
    CAPACITY = "capacity"
    UNMANAGED_PODS = "unmanaged_pods"
    LOCAL_STORAGE = "local_storage"
    ROLLOUT_IN_PROGRESS = "rollout_in_progress"
    SINGLE_REPLICA = "single_replica"
    OPERATOR_DOWN = "operator_down"
    CRASH_LOOPING = "crash_looping"
    GITOPS_MANAGED = "gitops_managed"
    NO_CULPRIT = "no_culprit"
    NOT_FIRING = "not_firing"
    SILENCED = "silenced"
    STALE_METRIC = "stale_metric"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    AGENT_NOT_READY = "agent_not_ready"
    MISSING_RIGHT = "missing_right"
    # endings
    HEALED = "healed"
    STILL_FIRING = "still_firing"
    RELAPSED = "relapsed"
    DEADLINE = "deadline"
    STEP_FAILED = "step_failed"
    RESOLVED_MEANWHILE = "resolved_meanwhile"
    REJECTED = "rejected"
    APPROVAL_EXPIRED = "approval_expired"
    CANCELLED_BY = "cancelled_by"
    LOST_LEASE = "lost_lease"
    CRASHED = "crashed"
    # elsewhere
    DUPLICATE = "duplicate"
    UNMATCHED = "unmatched"
    RESOLVED = "resolved"
    NO_MORE_RUNGS = "no_more_rungs"


_SENTENCES = {
    Reason.PAUSED: "A person paused everything, this playbook or this target.",
    Reason.OUTSIDE_WINDOW: "The playbook may act only within its time windows, and this is outside of them.",
    Reason.MAINTENANCE: "A maintenance window is open; the alert is decided again when it ends.",
    Reason.OBSERVE_ONLY: "The mode in force only records what would have been done.",
    Reason.COOLDOWN: "The same playbook acted on the same target too short a time ago.",
    Reason.ATTEMPTS_EXHAUSTED: "The playbook has used up its attempts on this target for now.",
    Reason.RATE_LIMITED: "Too many runs began within the hour.",
    Reason.CONCURRENCY: "As many runs as allowed are open already.",
    Reason.TARGET_BUSY: "Another run is open on the same target.",
    Reason.TARGET_LEASED: "Another tool holds the lease on the target.",
    Reason.TARGET_MISSING: "The alert names no target, or one that does not exist.",
    Reason.TARGET_AMBIGUOUS: "The alert's labels fit more than one object.",
    Reason.TARGET_CHANGED: "The object of that name is not the one that was decided on: its uid differs.",
    Reason.PROTECTED: "The target carries a mark that forbids acting on it.",
    Reason.DISTURBANCE_BUDGET: "Too much of the cluster is disturbed already, whoever caused it.",
    Reason.BREAKER_OPEN: "Too many runs or failures opened the breaker; a person must reset it.",
    Reason.PARTITION: "The network looks partitioned, or our own view of it is suspect.",
    Reason.STORM: "Too many episodes began at once; one cause is likelier than many.",
    Reason.QUORUM: "Acting would endanger the quorum of the control plane.",
    Reason.SELF: "Acting would hit the daemon itself or something that it depends on.",
    Reason.ROUTE_COVERAGE: "Acting would leave an announced address with too few speakers.",
    Reason.PDB: "A PodDisruptionBudget does not allow it.",
    Reason.CAPACITY: "The pods would not fit anywhere else.",
    Reason.UNMANAGED_PODS: "Pods without a controller would be lost.",
    Reason.LOCAL_STORAGE: "Pods with local data would lose it.",
    Reason.ROLLOUT_IN_PROGRESS: "A rollout of the workload is in progress.",
    Reason.SINGLE_REPLICA: "The workload has one replica, so replacing it interrupts what it does.",
    Reason.OPERATOR_DOWN: "The Cilium operator is not available, so the change would not take effect.",
    Reason.CRASH_LOOPING: "The container restarts by itself again and again; another restart would not help.",
    Reason.GITOPS_MANAGED: "A GitOps controller manages the object and would revert the change.",
    Reason.NO_CULPRIT: "The observations blame no single node.",
    Reason.NOT_FIRING: "Alertmanager does not report this episode as firing any more.",
    Reason.SILENCED: "The alert was silenced or inhibited since it was sent.",
    Reason.STALE_METRIC: "The metric behind the decision is missing or too old.",
    Reason.UNREADABLE: "A signal that the decision needs could not be read, so the answer is no.",
    Reason.TRUNCATED: "Alertmanager cut alerts off this notification, so the number of targets is unknown.",
    Reason.AGENT_NOT_READY: "A Cilium agent that the change depends on is not ready.",
    Reason.MISSING_RIGHT: "The daemon's account in the cluster lacks a right that the playbook needs; the detail names it.",
    Reason.HEALED: "The symptom is gone and stayed gone for the hold time.",
    Reason.STILL_FIRING: "The symptom was still there when the time to verify ran out.",
    Reason.RELAPSED: "The symptom went and came back within the hold time.",
    Reason.DEADLINE: "The time for it ran out.",
    Reason.STEP_FAILED: "A step failed, so the rung stopped there.",
    Reason.RESOLVED_MEANWHILE: "The alert resolved before the run was through.",
    Reason.REJECTED: "A person rejected the run.",
    Reason.APPROVAL_EXPIRED: "Nobody approved the run in time.",
    Reason.CANCELLED_BY: "A person cancelled the run.",
    Reason.LOST_LEASE: "The lease on the target was lost during the run.",
    Reason.CRASHED: "The daemon died in the middle and nobody can say whether the call took effect.",
    Reason.DUPLICATE: "This episode already led to a run.",
    Reason.UNMATCHED: "No playbook takes this alert.",
    Reason.RESOLVED: "The alert is resolved; nothing is started for it.",
    Reason.NO_MORE_RUNGS: "Every rung of the ladder was tried; a person must look.",
}


def sentence(reason: Reason) -> str:
    """What ``reason`` means, in one sentence."""
    return _SENTENCES[reason]


def event_reason(reason: Reason) -> str:
    """The code in CamelCase, as Kubernetes Events spell reasons (``target_busy`` -> ``TargetBusy``)."""
    return "".join(part.capitalize() for part in reason.value.split("_"))
