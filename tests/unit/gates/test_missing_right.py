from __future__ import annotations

from remediator.reasons import Reason


def test_what_our_account_may_not_refuses_and_is_named(judge, case, snapshot):
    verdict = judge("missing_right", case, snapshot(rights="delete pods in kube-system (action cilium.restart_agent)"))
    assert (verdict.allowed, verdict.reason) == (False, Reason.MISSING_RIGHT)
    assert verdict.detail == "our account may not delete pods in kube-system (action cilium.restart_agent)"


def test_an_account_that_may_do_all_of_it_passes(judge, case, snapshot):
    assert judge("missing_right", case, snapshot()).allowed
