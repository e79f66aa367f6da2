"""Wiring and lifecycle: build the doors from the settings, start, reload, recover, stop.

In: Settings. Out: a running daemon, or an error that says what is wrong and where. Whatever was opened is closed again, last first, also
when the building fails half-way.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import socket
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import structlog
import watchfiles
from aiohttp import web

from remediator import __version__, record
from remediator.actions import Cilium, actions
from remediator.annotations import Annotations
from remediator.candidate import Candidate
from remediator.carry import A_PERSON_MUST_LOOK
from remediator.clock import SystemClock
from remediator.cluster.read import read_own
from remediator.demotion import Demotions
from remediator.document import told
from remediator.errors import DocumentError, JournalError, JournalUnavailable, UsageError
from remediator.events import Events
from remediator.gates import Limits as GateLimits
from remediator.gates import gates
from remediator.journal import Journal, Redactor, secrets_of
from remediator.kube import Kube
from remediator.kube.elector import Elector
from remediator.model import ApprovalState, RunState
from remediator.monitoring import Alertmanager, Prometheus
from remediator.notices import Notices, Posts
from remediator.operations import Operations
from remediator.payload import Limits
from remediator.pipeline import Pipeline
from remediator.playbook import Library, files_of, load_playbook, shipped
from remediator.probing import Prober
from remediator.rights import Rights
from remediator.run import StepEnd
from remediator.server import Named, Proxy, Scope, Tokens, build_app
from remediator.server.connections import Connections
from remediator.server.service import PruneRequest, ReloadReport
from remediator.settings import effective_mode, idle_names
from remediator.telemetry import METRICS, configure_logging, zero
from remediator.telling import Grafana, Invitations, Teller
from remediator.tracing import Tracing
from remediator.verify import PROOFS
from remediator.vitals import Vitals, keep_timing
from remediator.world import Asking, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from remediator.clock import Clock
    from remediator.model import Target
    from remediator.settings import Settings

__all__ = ["Daemon", "serve"]

log = structlog.get_logger(__name__)

_REVISIONS = 64
"""Playbooks that the journal kept, which are read once for all runs of theirs."""
_STOP = timedelta(seconds=20)
"""For the calls under way when the daemon is told to stop; Kubernetes kills a pod after 30 s by default."""
_LOOK_AT_DOORS = timedelta(seconds=30)
_ASK_FOR_RIGHTS = timedelta(minutes=5)
_PRUNE = timedelta(hours=1)
_HANDED_OVER = "hand_over"
_AGAIN = timedelta(minutes=10)
"""After a leader handed over so that another one could disturb its node, until one does so again."""
_LOOK_AT_SEAT = timedelta(seconds=2)
_WAIT_FOR_SEAT = timedelta(seconds=20)
"""For an earlier life whose end the store has not heard of: 14 s without an answer, where its machine is gone."""
_LOOK_AT_FILES = timedelta(seconds=5)
"""Real time between two looks at the playbooks where nothing hints at a change: some file systems tell nobody."""
_YOUNG = 10_000
"""Objects made before the garbage collector looks at the young ones. Hardly anything here is garbage that only the collector finds."""


class Daemon:
    """One process of remediator. ``build``, ``start``, ``stop``; everything in between happens by itself."""

    def __init__(self, settings: Settings, operations: Operations, pipeline: Pipeline, app: web.Application, world: World) -> None:
        self.operations = operations
        self.world = world
        self._settings = settings
        self._pipeline = pipeline
        self._app = app
        self._stack = AsyncExitStack()
        self.over = asyncio.Event()
        """Set once this process must end by itself, and why."""
        self.why = ""
        self._seen = ""
        """What the playbooks' files held when they were last read."""
        self.url = ""

    @classmethod
    async def build(
        cls, settings: Settings, *, clock: Clock | None = None, dry_run: bool | None = None, probe: Prober | None = None
    ) -> Daemon:
        """Open every door. Raises DocumentError (no playbook can be read), JournalUnavailable, KubeError, UsageError (token files).

        ``probe``: who is asked in place of the network, where the cluster is not a real one.
        """
        clock = clock or SystemClock()
        async with AsyncExitStack() as stack:
            tokens, secrets = _tokens(settings)
            kube = await _kube(settings, clock, stack)
            redact = Redactor([*secrets, *kube.secrets])
            configure_logging(redact=redact.event)
            elector = _elector(settings, kube, clock)
            kube = kube.guarded(lambda: world.may_act)
            seen = _contents(settings)
            library, problems = _load_rest(settings)
            tracing = _tracing(settings, redact)
            stack.push_async_callback(tracing.close)
            journal = await Journal.open(settings.store.full_url(), clock=clock, redact=redact, anchor=settings.store.anchor)
            stack.push_async_callback(journal.close)
            teller = Teller(settings.notify, clock=clock, keeper=Posts(journal))
            stack.push_async_callback(teller.close)
            world = World(
                clock=clock,
                journal=journal,
                kube=kube,
                events=Events(kube, clock, redact.text) if settings.kubernetes.events else Events(),
                prometheus=_prometheus(settings, clock, stack),
                alertmanager=_alertmanager(settings, stack),
                redact=redact,
                cilium=Cilium(
                    namespace=settings.cilium.namespace,
                    agent_selector=settings.cilium.agent_selector,
                    health_port=settings.cilium.health_port,
                ),
                limits=GateLimits.of(settings),
                dry_run=settings.dry_run if dry_run is None else dry_run,
                mode_of=partial(effective_mode, settings),
                asking=Asking(expires=settings.approval.expires, people=settings.approval.people),
                demotions=Demotions(settings.demotion.failures),
                probe=probe or Prober(),
                teller=teller,
                invitations=Invitations(_values(tokens)),
                tracing=tracing,
                library=library,
                load_revision=lru_cache(_REVISIONS)(partial(load_playbook, actions=actions(), gates=gates())),
            )
            world.elector = elector
            world.rights = Rights(world.kube, clock, world.cilium)
            pipeline = Pipeline(world, settings.store.full_url())
            report = ReloadReport(
                ok=not problems, problems=problems + _idle(settings, library), playbooks=len(library.playbooks), at=clock.now()
            )
            operations = Operations(
                world,
                pipeline,
                limits=Limits(body=settings.server.max_body),
                ceiling=settings.mode,
                first_load=report,
                retention=settings.store.retention,
            )
            app = build_app(
                operations, tokens=tokens, proxy=_proxy(settings), max_body=settings.server.max_body, clock=clock, known=redact.known
            )
            daemon = cls(settings, operations, pipeline, app, world)
            daemon._seen = seen
            operations.on_reload = daemon.reload
            daemon._stack = stack.pop_all()
            return daemon
        raise AssertionError("unreachable")

    async def start(self, *, listen: str | None = None) -> None:
        """Take up what an earlier life left, then answer requests. ``url`` says where."""
        _announce(self.world.library, self.operations.last_reload)
        journal, elector = self.world.journal, self.world.elector
        by, own = elector.identity if elector is not None else _identity(), await read_own()
        await journal.sit(alone=elector is None, by=by, node=own.node, within=_WAIT_FOR_SEAT)
        await journal.note("start", "", {"version": __version__, "dry_run": self.world.dry_run})
        vitals = Vitals(self.world, self._pipeline)
        await vitals.anchor()
        self._stack.push_async_callback(vitals.anchor)
        candidate: Candidate | None = None
        if elector is None:
            if journal.shared:
                await journal.lead(by)  # should its seat be lost, whoever has it then goes on without this one
            await self._pipeline.start()
            self._stack.push_async_callback(self._pipeline.stop, _STOP)
        else:
            self.world.hand_over = self._hand_over
            candidate = Candidate(self.world, self._pipeline, elector, on_lead=self._lead, on_end=self._end)
            self._stack.push_async_callback(candidate.resign, _STOP)
        await self._listen(listen)
        self._background(self._keep_seat(), "keep the seat at the store")
        self._background(self._watch_playbooks(), "watch playbooks")
        self._background(self._keep_looking(), "look at doors")
        self._background(vitals.keep_looking(), "look at ourselves")
        self._background(vitals.keep_verifying(), "verify the journal")
        self._background(vitals.keep_anchoring(), "anchor the journal")
        self._background(keep_timing(), "time the event loop")
        self._background(self.world.events.write(), "write Events")
        self._background(self._keep_asking(), "look at surroundings")
        if candidate is None:
            METRICS.leader.set(1)
            self._lead()
        else:
            self._background(candidate.stand(), "stand for election")
        self.operations.not_ready = ""
        log.info(
            "ready", url=self.url, playbooks=len(self.world.library.playbooks), dry_run=self.world.dry_run, mode=self._settings.mode.value
        )

    def _lead(self) -> None:
        """What one replica does for all."""
        if self.world.teller.routes:
            self._background(Notices(self.world).watch(), "watch what people must know")
        if self._settings.grafana.url is not None:
            grafana = Grafana(self._settings.grafana, clock=self.world.clock)
            self._stack.push_async_callback(grafana.close)
            self._background(Annotations(self.world, grafana).watch(), "annotate runs")
        self._background(self._keep_pruning(), "prune the journal")
        if self.world.elector is not None:
            self._background(self.operations.errands.serve(), "do what standbys were asked")

    def _end(self, why: str) -> None:
        METRICS.leader.set(0)
        if not self.why:
            self.why = why
            holder = self.world.elector.holder if self.world.elector is not None else ""
            log.error("this daemon must act no more and ends", why=why, leader=holder)
        self.over.set()

    async def stop(self) -> None:
        """Take no more work, let the call under way end, close every door. Open runs go on at the next start."""
        self.operations.not_ready = "stopping"
        METRICS.leader.set(0)
        self.world.feed.close()
        await self._stack.aclose()
        log.info("stopped")

    async def reload(self) -> ReloadReport:
        """Build the new playbooks, check all of them, then swap. On any problem the old ones stay in force."""
        now = self.world.clock.now()
        self._seen = await asyncio.to_thread(_contents, self._settings)
        try:
            library = await asyncio.to_thread(_load, self._settings)
        except (DocumentError, OSError) as error:
            problems = tuple(map(str, error.problems)) if isinstance(error, DocumentError) else (str(error),)
            log.error("playbooks were not reloaded; the old ones stay in force", problems=problems)  # noqa: TRY400 - a finding, no fault
            problems += _idle(self._settings, self.world.library)
            report = ReloadReport(ok=False, problems=problems, playbooks=len(self.world.library.playbooks), at=now)
        else:
            self.world.library = library
            report = ReloadReport(ok=True, problems=_idle(self._settings, library), playbooks=len(library.playbooks), at=now)
            log.info("playbooks reloaded", playbooks=len(library.playbooks))
            await self.operations.surroundings.look_at_rights()
        _announce(self.world.library, report)
        try:
            await self.world.journal.note("reload", "", {"ok": report.ok, "problems": list(report.problems)})
        except JournalUnavailable as error:
            log.warning("a reload is in force and could not be noted", error=str(error))
        return report

    async def _listen(self, listen: str | None) -> None:
        host, port = self._settings.server.host, self._settings.server.port
        if listen is not None:
            host, _, text = listen.rpartition(":")
            host, port = host.strip("[]"), int(text)
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=2)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        assert runner.server is not None, "it was set up"  # noqa: S101 - a programming error
        try:
            listening = await asyncio.get_running_loop().create_server(Connections(runner.server), host, port, backlog=1024)
        except OSError as error:
            raise UsageError(f"server.listen: cannot listen on {host}:{port}: {error.strerror}") from error
        self._stack.callback(listening.close)
        bound = listening.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"

    def _background(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (failure := task.exception()) is not None:
                log.error("a background task had ended by a fault of this program", task=name, exc_info=failure)

        self._stack.push_async_callback(end)

    async def _watch_playbooks(self) -> None:
        """Reload when what the playbooks' files hold is not what was read last, whatever else is written into their folders."""
        async for _ in _hints(_folders(self._settings)):
            if await asyncio.to_thread(_contents, self._settings) != self._seen:
                await self.operations.reload()

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.operations.look_at_doors()
            except JournalUnavailable as error:
                log.warning("the journal could not be asked for pauses", error=str(error))
            await self.world.clock.sleep(_LOOK_AT_DOORS)

    async def _hand_over(self, target: Target) -> bool:
        """See World. Not twice in a row: where the next leader may not do it either, the gate's answer stands."""
        journal, clock = self.world.journal, self.world.clock
        last = await journal.last_note(_HANDED_OVER)
        if (last is not None and clock.now() - last.at < _AGAIN) or not await journal.others_elsewhere():
            return False
        await journal.note(_HANDED_OVER, target.key, {"by": self.world.elector.identity if self.world.elector is not None else ""})
        self.over.set()
        return True

    async def _keep_seat(self) -> None:
        while not self.world.journal.deposed:
            await self.world.clock.sleep(_LOOK_AT_SEAT)
            await self.world.journal.keep_seat()
        self._end("another daemon acts on the store since")

    async def _keep_pruning(self) -> None:
        while True:
            await self.world.clock.sleep(_PRUNE)
            try:
                await self.operations.prune(PruneRequest(by="store.retention"))
            except JournalUnavailable as error:
                log.warning("the journal could not be pruned now", error=str(error))
            except JournalError as error:
                log.error("the journal is not pruned", error=str(error))  # noqa: TRY400 - a finding, no fault

    async def _keep_asking(self) -> None:
        while True:
            await self.operations.surroundings.look()
            await self.world.clock.sleep(_ASK_FOR_RIGHTS)


async def serve(settings: Settings, *, dry_run: bool | None = None, listen: str | None = None) -> int:
    """Run until SIGTERM or SIGINT; SIGHUP reloads. The exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = await Daemon.build(settings, dry_run=dry_run)
    reloads: set[asyncio.Task[Any]] = set()

    def reload() -> None:
        task = loop.create_task(daemon.operations.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await daemon.start(listen=listen)
        _settle_memory()
        await _first(stop, daemon.over)
    finally:
        await daemon.stop()
    return 1 if daemon.why else 0


async def _first(*events: asyncio.Event) -> None:
    """Return once any of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _elector(settings: Settings, kube: Kube, clock: Clock) -> Elector | None:
    """Raises UsageError if nobody says where the Lease is."""
    if not settings.election.enabled:
        return None
    namespace = settings.election.namespace or os.environ.get("POD_NAMESPACE", "")
    if not namespace:
        raise UsageError("election.namespace is not set and POD_NAMESPACE neither; say where the Lease is")
    return Elector(kube, clock, name=settings.election.lease, namespace=namespace, identity=_identity())


def _identity() -> str:
    """A restarted container has its pod's name again, and must not take what its last life held for its own."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.urandom(4).hex()}"


def _settle_memory() -> None:
    """What start-up made stays as long as the process; walking it over and over would stall the event loop for a tenth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
    gc.enable()


def _load(settings: Settings) -> Library:
    return Library.load(settings.playbooks or (shipped(),), actions=actions(), gates=gates())


def _load_rest(settings: Settings) -> tuple[Library, tuple[str, ...]]:
    """At start there are no old ones that could stay in force: what can be read serves, and the files that cannot are named."""
    library, problems = Library.load_rest(settings.playbooks or (shipped(),), actions=actions(), gates=gates())
    words = tuple(map(str, problems))
    if words:
        log.error("playbook files were refused; the others are in force", problems=words, playbooks=len(library.playbooks))
    return library, words


def _idle(settings: Settings, library: Library) -> tuple[str, ...]:
    """Names in the settings that fit no playbook in force, logged too. No reason to end: settings may be there before their playbook is."""
    words = tuple(f"settings: {told(loc, message)}" for loc, message in idle_names(settings, [one.name for one in library.playbooks]))
    if words:
        log.warning("the settings name playbooks that are not there", problems=words)
    return words


def _folders(settings: Settings) -> list[Path]:
    paths = settings.playbooks or (shipped(),)
    return sorted({path if path.is_dir() else path.parent for path in paths})


def _contents(settings: Settings) -> str:
    """A digest of the playbooks' files, or the words that say why they cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in settings.playbooks or (shipped(),):
            for file in files_of(path):
                digest.update(f"{file}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    except (DocumentError, OSError) as error:
        return str(error)
    return digest.hexdigest()


async def _hints(folders: Iterable[Path]) -> AsyncIterator[None]:
    """Whenever something in ``folders`` changes, and every few seconds. Folders are watched, since a ConfigMap swaps a symlink in them."""
    milliseconds = int(_LOOK_AT_FILES.total_seconds() * 1000)
    while True:
        try:
            async for _ in watchfiles.awatch(*folders, watch_filter=None, step=200, rust_timeout=milliseconds, yield_on_timeout=True):
                yield
        except (OSError, RuntimeError) as error:
            log.debug("the playbooks' folders cannot be watched; they are looked at", error=str(error))
            await asyncio.sleep(_LOOK_AT_FILES.total_seconds())
            yield


def _announce(library: Library, report: ReloadReport) -> None:
    """The gauges of a reload, and every metric that has a playbook in its labels at zero."""
    METRICS.reload_ok.set(report.ok)
    if report.ok:
        METRICS.reload_at.set(report.at.timestamp())
        METRICS.config_hash.set(int(library.revision, 16))
    playbooks = [playbook.name for playbook in library.playbooks]
    for gauge in (METRICS.runs_in_flight, METRICS.awaiting_approval, METRICS.demoted):
        zero(gauge, playbooks)
    for other in (METRICS.run_duration, METRICS.time_to_heal, METRICS.demotions):
        zero(other, playbooks)
    zero(METRICS.approvals, playbooks, [answer for answer in ApprovalState if answer is not ApprovalState.WAITING])
    zero(METRICS.runs, playbooks, [state for state in RunState if not state.open])
    zero(METRICS.gate_refusals, playbooks, gates())
    zero(METRICS.verifications, playbooks, PROOFS)
    zero(METRICS.not_healed, playbooks, A_PERSON_MUST_LOOK)
    zero(METRICS.action_attempts, actions(), StepEnd)
    zero(METRICS.action_duration, actions())
    record.begin_at_zero()


def _tokens(settings: Settings) -> tuple[Tokens, list[str]]:
    """The tokens' values, and all of them together with other secrets for the redactor. Raises UsageError."""
    server = settings.server
    files = {"webhook": server.webhook_token_file, "read": server.read_token_file, "write": server.write_token_file}
    values = {name: _secret(f"server.{name}_token_file", path) for name, path in files.items() if path}
    others = [
        settings.prometheus.token_file,
        settings.alertmanager.token_file,
        settings.store.password_file,
        settings.tracing.token_file,
        settings.grafana.token_file,
    ]
    named = tuple(
        Named(name=one.name, token=_secret(f"server.tokens, {one.name}", one.file), scope=Scope(one.scope)) for one in server.tokens
    )
    secrets = [*values.values(), *(one.token for one in named), *(_secret("token_file", path) for path in others if path)]
    secrets += secrets_of(settings.store.full_url(), tokens=False)
    for route in settings.notify:
        lines = [route.url] if route.url is not None else []
        for path in (route.url_file, route.secret_file, route.apprise_file, route.slack.token_file if route.slack else None):
            if path is not None:
                lines += _secret(f"notify {route.name}", path).splitlines()
        secrets += [*lines, *(part for line in lines for part in secrets_of(line))]
    try:
        tokens = Tokens(**values, named=named, insecure=server.insecure)
    except ValueError as error:
        raise UsageError(f"server: {error}") from error
    return tokens, secrets


def _values(tokens: Tokens) -> list[str]:
    """Every token's value."""
    return [*filter(None, (tokens.webhook, tokens.read, tokens.write)), *(one.token for one in tokens.named)]


def _tracing(settings: Settings, redact: Redactor) -> Tracing:
    t = settings.tracing
    return Tracing.to(t.endpoint, token_file=t.token_file, timeout=t.timeout, redact=redact.text) if t.endpoint is not None else Tracing()


def _proxy(settings: Settings) -> Proxy:
    proxy = settings.server.proxy
    return Proxy(proxy.addresses, read=proxy.read_groups, write=proxy.write_groups)


def _secret(setting: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}: {path} cannot be read: {error}") from error
    if not text:
        raise UsageError(f"{setting}: {path} is empty")
    return text


async def _kube(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Kube:
    k = settings.kubernetes
    kube = await Kube.connect(kubeconfig=k.kubeconfig, context=k.context, server=k.server, timeout=k.timeout, clock=clock)
    stack.push_async_callback(kube.close)
    return kube


def _prometheus(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Prometheus | None:
    p = settings.prometheus
    if p.url is None:
        return None
    prometheus = Prometheus(p.url, timeout=p.timeout, max_age=p.max_age, clock=clock, token_file=p.token_file)
    stack.push_async_callback(prometheus.close)
    return prometheus


def _alertmanager(settings: Settings, stack: AsyncExitStack) -> Alertmanager | None:
    a = settings.alertmanager
    if a.url is None:
        return None
    alertmanager = Alertmanager(a.url, timeout=a.timeout, token_file=a.token_file)
    stack.push_async_callback(alertmanager.close)
    return alertmanager
