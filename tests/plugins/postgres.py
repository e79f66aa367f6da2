"""A PostgreSQL server for the tests, as a pytest plugin.

``postgres_server``   the server (session): the one that REMEDIATOR_TEST_POSTGRES names, or a private one from Debian's binaries
``postgres_url``      its maintenance database's URL (session)
``postgres_database`` the URL of a database of its own for one test, dropped afterwards
``small_disk``        a small file system of its own with such a database on it, which can be filled up; needs root

Where neither is there, tests that ask for them are skipped and say so. The private server runs without fsync, listens on the loopback
interface only and lives in a temporary folder; PostgreSQL refuses to run as root, so root starts it as the user ``postgres``.
"""

from __future__ import annotations

import errno
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

ENVIRONMENT = "REMEDIATOR_TEST_POSTGRES"
BINARIES = "/usr/lib/postgresql/*/bin/initdb"
START_SECONDS = 30


class Server:
    """A server with the URL of its maintenance database. Only a private one (``stoppable``) can be stopped and frozen."""

    stoppable = False

    def __init__(self, url: str) -> None:
        self.url = url

    def create(self, *, tablespace: str = "pg_default") -> str:
        """A new, empty database; its URL."""
        name = f"test_{secrets.token_hex(8)}"
        self.sql(f'CREATE DATABASE "{name}" TABLESPACE {tablespace}')
        head, _, query = self.url.partition("?")
        return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    def drop(self, url: str) -> None:
        """Remove a database that ``create`` made, and whoever is connected to it."""
        name = url.partition("?")[0].rsplit("/", 1)[1]
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)

    def close(self) -> None:
        """Nothing: it is somebody else's."""


class PrivateServer(Server):
    """A server that lives as long as the test session."""

    stoppable = True

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="remediator-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.own(self._folder)
        self._port = _free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self._port}/postgres")
        try:
            self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 60,
            "shared_buffers": "32MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_dying_with_us(), *self._command("postgres", "-D", "data", *options)],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                user=self._uid(),
            )
        until = time.monotonic() + START_SECONDS
        while subprocess.run(
            [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)], check=False, timeout=10
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-1000:]}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it at once, as a crash would, or (SIGINT) fast, as ``pg_ctl restart`` does; what was committed is there after ``start``."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def own(self, folder: Path) -> None:
        """Give a folder to the user that it runs as."""
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def freeze(self) -> None:
        """It and all its processes stand still: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):  # a session that ended since must not leave the others frozen
                os.kill(pid, number)

    def _run(self, *command: str) -> None:
        done = subprocess.run(self._command(*command), cwd=self._folder, capture_output=True, check=False, timeout=120, user=self._uid())
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-1000:]}")

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self._binaries / program), *arguments]

    def _uid(self) -> int | None:
        return self._user.pw_uid if self._user else None


class SmallDisk:
    """A file system of its own (tmpfs) as a tablespace, with one database on it. The server's log and its other databases are elsewhere.

    So a full one is what PostgreSQL itself tells: SQLSTATE 53100, ``could not extend file``, wherever a table has to grow.
    """

    SIZE = "48m"

    def __init__(self, server: PrivateServer) -> None:
        self._server = server
        self._name = f"small_{secrets.token_hex(4)}"
        self.folder = Path(tempfile.mkdtemp(prefix="remediator-small-disk-"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=0711", "tmpfs", str(self.folder)], capture_output=True, check=False
        )
        if done.returncode:
            self.folder.rmdir()
            pytest.skip(f"no small disk: tmpfs cannot be mounted here ({done.stderr.decode(errors='replace').strip()})")
        self.url = ""
        try:
            place = self.folder / "tables"
            place.mkdir()
            server.own(place)
            server.sql(f"CREATE TABLESPACE {self._name} LOCATION '{place}'")
            self.url = server.create(tablespace=self._name)
        except BaseException:
            self.close()
            raise

    def fill(self) -> None:
        """Nothing more fits on it."""
        block = b"x" * 65536
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            while block:
                try:
                    ballast.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]

    def free(self) -> None:
        """There is room again."""
        (self.folder / "ballast").unlink()

    def close(self) -> None:
        """Take away the database, the tablespace and the file system."""
        try:
            if self.url:
                self._server.drop(self.url)
                self._server.sql(f"DROP TABLESPACE {self._name}")
        finally:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)
            self.folder.rmdir()


def _dying_with_us() -> list[str]:
    """A prefix that ends the server when the tests are killed, where util-linux is there."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "QUIT"] if setpriv else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _private() -> PrivateServer:
    found = sorted(Path("/").glob(BINARIES.lstrip("/")), key=lambda path: float(path.parts[-3]))
    if not found:
        pytest.skip(f"no PostgreSQL: {ENVIRONMENT} is not set and {BINARIES} is not there (Debian: apt install postgresql)")
    if os.geteuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall()):
        pytest.skip("no PostgreSQL: it refuses to run as root and there is no user postgres")
    return PrivateServer(found[-1].parent)


@pytest.fixture(scope="session")
def postgres_server():
    pytest.importorskip("psycopg", reason="no PostgreSQL: psycopg is not installed (the extra `postgres`)")
    url = os.environ.get(ENVIRONMENT)
    server = Server(url) if url else _private()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_url(postgres_server):
    return postgres_server.url


@pytest.fixture
def postgres_database(postgres_server):
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def small_disk(postgres_server):
    if not postgres_server.stoppable:
        pytest.skip("the PostgreSQL of these tests is somebody else's, so its disk is not filled")
    disk = SmallDisk(postgres_server)
    yield disk
    disk.close()
