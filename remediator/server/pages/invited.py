"""``/approve``: the page behind the link of a message. Whoever holds the link may answer one question, once, without signing in.

Only the form changes anything: programs that look at links before people do open the page and no more. Text that is no link of ours
counts as a guess, as an unknown token does. The text stands in the query, which no log has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import UsageError
from remediator.server import query
from remediator.server.auth import cross_site
from remediator.server.pages.frame import render
from remediator.server.pages.run import plan_of
from remediator.server.problems import HttpProblem

if TYPE_CHECKING:
    from aiohttp import web

    from remediator.model import Run
    from remediator.server.routing import Call

__all__ = ["FIELDS", "FILTERS", "answered", "page"]

FIELDS = ("token", "name", "reason", "answer")
FILTERS = (query.text("token", "What the link of the message ends with.", needed=True),)
_LONGEST_NAME, _LONGEST_REASON = 60, 500


async def page(call: Call) -> web.Response:
    """The question, what would be done, and a form."""
    token = call.query["token"]
    run = await _invited(call, token)
    return await render(call, "invited.html", run=run, asked=run.approvals[-1], plan=plan_of(run), token=token, answer="")


async def answered(call: Call) -> web.Response:
    """A yes or a no, by a person who says a name."""
    given = await call.form(FIELDS)
    if cross_site(call.request):
        raise HttpProblem(403, "Forbidden", "The form was sent by another site.")
    await _invited(call, given["token"])
    name, answer = given["name"].strip()[:_LONGEST_NAME], given["answer"]
    if not name:
        raise HttpProblem(400, "Bad request", "Say who you are; it stands in the record.", path="name")
    if answer not in ("approve", "reject"):
        raise HttpProblem(400, "Bad request", "The answer is approve or reject.", path="answer")
    try:
        run = await call.service.answer_invited(
            given["token"], by=f"{name}, by a link", reason=given["reason"].strip()[:_LONGEST_REASON], yes=answer == "approve"
        )
    except UsageError as error:
        raise _over(error) from None
    return await render(call, "invited.html", run=run, asked=run.approvals[-1], plan=[], token="", answer=answer)


async def _invited(call: Call, token: str) -> Run:
    with call.hall.doorkeeper.guesses(call.request) as guess:
        try:
            run = await call.service.invited(token)
        except UsageError as error:
            raise _over(error) from None
        if run is None:
            guess()
            raise HttpProblem(404, "No such link", "This link is not of this daemon, or its tokens were changed since.")
    return run


def _over(error: UsageError) -> HttpProblem:
    return HttpProblem(410, "This link is over", str(error))
