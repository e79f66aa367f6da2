"""One message to people, and how a route words it. Text that strangers wrote (labels, messages of APIs) is folded onto one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from remediator.model import Noun, evolve
from remediator.neutral import safe, visible
from remediator.settings import Event
from remediator.words import folded

if TYPE_CHECKING:
    from remediator.settings import Notify

__all__ = ["Message"]

_LONGEST_NAME = 200
"""Characters of an alert's name, which strangers write."""
_PLACE = re.compile(r"\$\{([a-z]+)\}")


class Message(Noun, frozen=True, kw_only=True):
    """What happened. ``id`` is the same whenever the same thing is told again, so that a receiver can tell."""

    id: str
    event: Event
    at: str
    """RFC 3339"""
    summary: str
    playbook: str = ""
    target: str = ""
    run: str = ""
    state: str = ""
    reason: str = ""
    detail: str = ""
    alert: str = ""
    invitation: str = ""
    """What the link of a question ends with; routes without ``approve_links`` do not tell it."""
    title: str = ""
    """Instead of the route's, where a step says so."""
    aside: bool = False
    """Whether a step says it, so that it does not tell how the run stands."""
    lines: tuple[str, ...] = ()
    """What happened in the run so far, for messages that are kept up to date."""

    def opening(self) -> Message:
        """That its run is at work, for where the run's own message has to come before what a step says."""
        return evolve(self, event=Event.BEGUN, summary=f"{self.playbook} on {self.target} is at work", title="", aside=False)

    def worded(self, route: Notify) -> dict[str, Any]:
        """The body of a webhook; ``title`` and ``text`` are for people."""
        plain = {name: getattr(self, name) for name in ("playbook", "target", "run", "state", "reason", "alert")}
        link = f"{route.link.rstrip('/')}/runs/{self.run}" if route.link and self.run else route.link or ""
        plain["alert"] = folded(safe(self.alert), _LONGEST_NAME)
        base = route.link.rstrip("/") if route.link and route.approve_links else ""
        approve = f"{base}/approve?token={quote(self.invitation, safe='')}" if base and self.invitation else ""
        plain["approve"] = approve
        values = {**plain, "event": self.event.value, "detail": safe(folded(self.detail)), "summary": visible(self.summary), "link": link}

        def fill(template: str) -> str:
            return _PLACE.sub(lambda place: values[place[1]], template)

        told = {
            "id": self.id,
            "at": self.at,
            **values,
            "title": safe(folded(self.title or fill(route.title))),
            "text": _with_link(visible(fill(route.text)), approve),
        }
        return {"version": "1", **told}


def _with_link(text: str, approve: str) -> str:
    """A route that gives links gives them, whatever its template says."""
    return text if not approve or approve in text else f"{text}\nApprove or reject: {approve}"
