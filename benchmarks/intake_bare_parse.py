"""The ceiling: a bare aiohttp handler that parses the body and forgets it. Usage: intake_bare_parse.py PORT."""

from __future__ import annotations

import json
import sys
from itertools import count

from aiohttp import web

_ids = count(1)


async def receive(request: web.Request) -> web.Response:
    payload = json.loads(await request.read())
    return web.json_response({"delivery": f"{next(_ids):026d}", "alerts": len(payload["alerts"])})


def main() -> None:
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/api/v1/alerts", receive)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
