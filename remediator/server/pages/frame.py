"""What all pages share: templates, filters, headers, errors as pages. In: a call and values; out: HTML with every value escaped.

Text of strangers is made visible first (no escapes, no marks that reorder text), cut where a place is small, and escaped by jinja2 always.
No page has a script or a style of its own in it, and the content security policy forbids them.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from aiohttp import web
from markupsafe import Markup

from remediator import words
from remediator.clock import iso
from remediator.model import to_json
from remediator.neutral import visible
from remediator.reasons import sentence

if TYPE_CHECKING:
    from remediator.server.problems import HttpProblem
    from remediator.server.routing import Call

__all__ = ["HEADERS", "STATIC", "error_page", "render", "wants_page"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_MEDIA = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LONGEST = 20_000
"""Characters of one folded piece of evidence."""


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    folder = resources.files("remediator.server.pages") / "static"
    return {one.name: (one.read_bytes(), _MEDIA[one.name.rpartition(".")[2]]) for one in folder.iterdir() if one.is_file()}


STATIC = _files
"""Name -> content and media type of what pages load."""


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("remediator.server.pages"),
        auto_reload=False,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters.update(ago=_ago, clip=words.folded, moment=_moment, part=_part, pretty=_pretty, sentence=sentence, span=_span)
    made.globals.update(words=words, mood=_mood)
    return made


_compiled: set[str] = set()


def _compile(name: str) -> None:
    for each in ("parts.html", "base.html", name):
        _templates().get_template(each)
    _compiled.add(name)


async def _template(name: str) -> jinja2.Template:
    """Compiled in a thread when it is asked for first: that takes up to a tenth of a second, which the event loop has to give others."""
    if name not in _compiled:
        await asyncio.to_thread(_compile, name)
    return _templates().get_template(name)


def _shown(value: Any) -> Any:
    """Before escaping. Markup is made here and by jinja2 only."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


def _ago(at: datetime, now: datetime) -> str:
    return f"in {_span(at - now)}" if at > now else f"{_span(now - at)} ago"


def _span(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _moment(at: datetime, base: datetime | None = None) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(iso(at), words.moment(at, base))


def _part(text: str) -> str:
    """For a path."""
    return quote(text, safe="")


def _pretty(data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(to_json(data), indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + f"\n… {len(text) - _LONGEST} characters more; the API has them"


_MOODS = {
    "good": {"healed", "done", "succeeded", "approved", "applied", "undone", "kept"},
    "bad": {"failed", "not_healed", "unknown", "foreign", "rejected", "expired"},
    "busy": {"running", "verifying", "undoing"},
    "ask": {"awaiting_approval", "waiting"},
}


def _mood(state: str) -> str:
    """Which colour goes with a state; the word itself always stands beside it."""
    return next((mood for mood, states in _MOODS.items() if state in states), "calm")


async def render(call: Call, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """A page for the person who asks."""
    person, hall = call.person, call.hall
    shared = {
        "now": hall.clock.now(),
        "who": person.name or person.claim,
        "signed_in": person.ambient,
        "may_steer": "write" in person.scopes,
        "csrf": hall.doorkeeper.seal(person),
        "here": call.request.path,
        "daemon": call.service.status(),
    }
    return _page((await _template(template)).render(**shared, **values), status)


def wants_page(request: web.Request) -> bool:
    """Whether a person with a browser asks, and not a program."""
    return "text/html" in request.headers.get("Accept", "") and not request.path.startswith("/api/")


async def error_page(problem: HttpProblem, request: web.Request, request_id: str) -> web.Response:
    """An error for people: to the sign-in if nobody knows who they are, else a page that says what is wrong."""
    if problem.status == 401 and request.method == "GET":
        there = quote(request.path_qs, safe="/")
        return web.Response(status=303, headers={**HEADERS, "Location": f"/login?next={there}"})
    template = await _template("error.html")
    text = template.render(problem=problem.document, request_id=request_id, here=request.path, now=datetime.now(UTC))
    response = _page(text, problem.status)
    response.headers.update({name: value for name, value in problem.headers.items() if name != "WWW-Authenticate"})
    return response


def _page(text: str, status: int) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)
