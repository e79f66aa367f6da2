"""``/login``, ``/logout``: a token becomes a cookie that scripts cannot read and other sites cannot send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from remediator.server.auth import COOKIE, SESSION_SECONDS, Scope, cross_site
from remediator.server.pages.frame import HEADERS, render
from remediator.server.problems import HttpProblem

if TYPE_CHECKING:
    from remediator.server.routing import Call

__all__ = ["LOGIN", "form", "sign_in", "sign_out"]

LOGIN = ("token", "name", "next")


async def form(call: Call) -> web.Response:
    """``GET /login``"""
    return await render(call, "login.html", there=_there(call.query.get("next", "")), wrong="")


async def sign_in(call: Call) -> web.Response:
    """``POST /login``: to the page that was wanted, or the form again with what is wrong."""
    given = await call.form(LOGIN)
    if cross_site(call.request):
        raise HttpProblem(403, "Forbidden", "The form was sent by another site.")
    there = _there(given["next"])
    token = given["token"].strip()
    if not token:
        raise HttpProblem(400, "Bad request", "token is missing", path="token")
    try:
        _reader(call, token)
    except HttpProblem as problem:
        response = await render(call, "login.html", status=problem.status, there=there, wrong=problem.document["detail"])
        response.headers.update({name: value for name, value in problem.headers.items() if name == "Retry-After"})
        return response
    response = _to(there)
    secure = call.hall.doorkeeper.secure(call.request)
    value = call.hall.doorkeeper.sign_in(token, given["name"].strip())
    response.set_cookie(COOKIE, value, max_age=SESSION_SECONDS, httponly=True, samesite="Strict", secure=secure, path="/")
    return response


def _reader(call: Call, token: str) -> None:
    """Raise HttpProblem unless the token opens pages."""
    if Scope.READ not in call.hall.doorkeeper.holder(call.request, token).scopes:
        raise HttpProblem(403, "Forbidden", "This token opens no page; it takes a read or a write token.")


async def sign_out(call: Call) -> web.Response:
    """``POST /logout``"""
    if cross_site(call.request):
        raise HttpProblem(403, "Forbidden", "The form was sent by another site.")
    response = _to("/login")
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response


def _to(path: str) -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": path})


def _there(path: str) -> str:
    """A page of ours: a path, no address of another site."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\", "/login")) and path.isprintable() and "\\" not in path
    return path if plain else "/"
