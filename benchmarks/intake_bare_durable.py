"""The yardstick: a bare aiohttp handler that parses, and answers after SQLite has the body on disk. One thread commits
whatever waits (group commit). Nothing else: no token, no checks, no log. Usage: intake_bare_durable.py PORT DATABASE.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import sys
import threading
from itertools import count

from aiohttp import web

_ids = count(1)
_waiting: queue.SimpleQueue[tuple[str, bytes, asyncio.Future[None]]] = queue.SimpleQueue()


async def receive(request: web.Request) -> web.Response:
    body = await request.read()
    payload = json.loads(body)
    delivery, stored = f"{next(_ids):026d}", asyncio.get_running_loop().create_future()
    _waiting.put((delivery, body, stored))
    await stored
    return web.json_response({"delivery": delivery, "alerts": len(payload["alerts"])})


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _write(path: str, loop: asyncio.AbstractEventLoop) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE delivery (id TEXT PRIMARY KEY, body TEXT NOT NULL)")
    while True:
        batch = [_waiting.get()]
        while not _waiting.empty():
            batch.append(_waiting.get())
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO delivery VALUES (?, ?)", [(delivery, body) for delivery, body, _ in batch])
        connection.execute("COMMIT")
        loop.call_soon_threadsafe(_resolve, [future for _, _, future in batch])


async def _start_writer(_: web.Application) -> None:
    threading.Thread(target=_write, args=(sys.argv[2], asyncio.get_running_loop()), daemon=True).start()


def main() -> None:
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/api/v1/alerts", receive)
    app.on_startup.append(_start_writer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
