"""A PostgreSQL server of Debian's binaries, for as long as a ``with`` lasts: durable, and as it comes but for its memory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["server"]

_PATIENCE = 60.0


@contextmanager
def server() -> Iterator[str | None]:
    """The URL of its empty database; None where there is no PostgreSQL. It refuses to run as root, so root starts it as ``postgres``."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    user = next((one for one in pwd.getpwall() if one.pw_name == "postgres"), None) if os.geteuid() == 0 else None
    if not binaries or (os.geteuid() == 0 and user is None):
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="history-postgres-"))
    data, port, uid = folder / "data", free_port(), user.pw_uid if user else None
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    words = ["-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run([binaries[-1], *words], check=True, capture_output=True, cwd="/", user=uid)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "shared_buffers": "512MB"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        command = [binaries[-1].with_name("postgres"), "-D", str(data), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", user=uid)
    try:
        until = time.monotonic() + _PATIENCE
        asked = [binaries[-1].with_name("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(asked, check=False, timeout=10).returncode:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-1000:]}")
            time.sleep(0.1)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE)
        shutil.rmtree(folder)
