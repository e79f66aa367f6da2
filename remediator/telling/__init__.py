"""The only door to people: signed webhooks, what apprise knows, and Slack. Importing this is cheap: aiohttp comes with the first message.

In: a Message. Out: for each route that takes it, whether it was sent. Nothing is raised: who cannot be told is logged and counted, and
whatever told us goes on. A try has a deadline; what may work later is tried again; what a receiver refuses is not.
"""

from __future__ import annotations

from remediator.telling.grafana import Grafana
from remediator.telling.invitation import Invitation, Invitations, milliseconds
from remediator.telling.message import Message
from remediator.telling.slack import Posted
from remediator.telling.teller import Teller

__all__ = ["Grafana", "Invitation", "Invitations", "Message", "Posted", "Teller", "milliseconds"]
