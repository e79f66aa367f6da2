"""The pages that people look at, and the forms on them. In: the service; out: HTML that works without a script and renews itself with one.

``frame`` has what they share, ``templates`` and ``static`` what they look like, each page its own file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from remediator.server import query
from remediator.server.auth import Scope
from remediator.server.pages import cluster, forms, home, invited, playbook, report, run, sign_in
from remediator.server.pages.frame import HEADERS, STATIC
from remediator.server.problems import no_such
from remediator.server.routing import Route

if TYPE_CHECKING:
    from remediator.server.routing import Call

__all__ = ["ROUTES"]


async def static(call: Call) -> web.Response:
    """``GET /static/{name}``"""
    name = call.named("name")
    if name not in STATIC():
        raise no_such("file", name)
    body, media = STATIC()[name]
    return web.Response(body=body, content_type=media, charset="utf-8", headers=HEADERS)


def _page(path: str, handler: Any, summary: str, *filters: query.Filter, **more: Any) -> Route:
    scope = more.pop("scope", Scope.READ)
    return Route(
        method="GET", path=path, scope=scope, handler=handler, summary=summary, query=filters, media="text/html", browser=True, **more
    )


def _form(path: str, handler: Any, summary: str, fields: tuple[str, ...] = forms.FIELDS, **more: Any) -> Route:
    return Route(
        method="POST",
        path=path,
        handler=handler,
        summary=summary,
        fields=fields,
        media="text/html",
        browser=True,
        **{"scope": Scope.WRITE, "status": 303, **more},
    )


ROUTES = (
    _page("/", home.home, "What is being done, and why", *home.FILTERS),
    _page("/runs/{id}", run.page, "One run, from the delivery to the proof"),
    _page("/playbooks", playbook.listed, "The playbooks in force"),
    _page("/playbooks/{name}", playbook.page, "One playbook: source, ladder, gates, how it did"),
    _page("/cluster", cluster.page, "Nodes, budget, BGP, pairs of nodes"),
    _page("/report", report.page, "What came of acting, by playbook and target; what recurs", *report.FILTERS),
    _page("/login", sign_in.form, "Sign in with a token", query.text("next", "The page to go to."), scope=Scope.NONE),
    _form("/login", sign_in.sign_in, "A cookie for a token", sign_in.LOGIN, scope=Scope.NONE, fails=(401, 403, 429)),
    _form("/logout", sign_in.sign_out, "Forget the cookie", (), scope=Scope.NONE, fails=(403,)),
    _page("/approve", invited.page, "The question behind the link of a message", *invited.FILTERS, scope=Scope.NONE, fails=(404, 410, 429)),
    _form(
        "/approve",
        invited.answered,
        "Answer it",
        invited.FIELDS,
        scope=Scope.NONE,
        status=200,
        fails=(403, 404, 410, 429),
    ),
    *(
        _form(f"/runs/{{id}}/{verb}", forms.intervene, f"The button {verb} of a run's page", fails=(409,))
        for verb in ("cancel", "approve", "reject", "undo")
    ),
    _form("/pause", forms.pause, "The button that stops everything"),
    _form("/resume", forms.resume, "The button that ends the stop of everything"),
    Route(method="GET", path="/static/{name}", scope=Scope.NONE, handler=static, summary="What pages load", media="text/css", lenient=True),
)
