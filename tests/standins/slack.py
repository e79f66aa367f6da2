"""Slack's Web API, as far as messages go: what it keeps, what it answers, and the errors that it is told to give."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from aiohttp import web


class Slack:
    """``answers``: what the next calls of a method get instead, a pair of status and body each; ``messages`` has what people see."""

    token = "xoxb-0123456789-t0ken-of-the-b0t"

    def __init__(self):
        self.messages, self.calls = {}, []
        self.answers = {"chat.postMessage": [], "chat.update": []}
        self.retry_after = "7"
        self.news = asyncio.Event()
        self._number = itertools.count(100)

    def shown(self, *, replies=False):
        """Texts of messages in the channel, or of those in threads, in the order of their posting."""
        return [one["text"] for one in self.messages.values() if ("thread_ts" in one) is replies]

    async def handle(self, request):
        method, body = request.match_info["method"], await request.json()
        self.calls.append((method, body))
        self.news.set()
        if self.answers[method]:
            status, answer = self.answers[method].pop(0)
            return web.json_response(answer, status=status, headers={"Retry-After": self.retry_after} if status == 429 else {})
        return web.json_response(self._answer(request, method, body))

    def _answer(self, request, method, body):
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return {"ok": False, "error": "invalid_auth"}
        channels = ("oncall", "C024BE91L") if method == "chat.postMessage" else ("C024BE91L",)  # a name will not do for an update
        if body["channel"] not in channels:
            return {"ok": False, "error": "channel_not_found"}
        if method == "chat.postMessage":
            ts = f"1405894322.{next(self._number):06}"
            self.messages[ts] = body
            return {"ok": True, "channel": "C024BE91L", "ts": ts, "message": {"text": body["text"]}}
        if body["ts"] not in self.messages:
            return {"ok": False, "error": "message_not_found"}
        self.messages[body["ts"]] |= {"text": body["text"]}
        return {"ok": True, "channel": "C024BE91L", "ts": body["ts"], "text": body["text"]}


@contextlib.asynccontextmanager
async def slack_server():
    """A stand-in that serves; its ``url`` is what settings name."""
    stand_in = Slack()
    app = web.Application()
    app.router.add_post("/api/{method}", stand_in.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api"
        yield stand_in
    finally:
        await runner.cleanup()
