"""The shape of the settings file. What is wrong in itself is refused here; positions and other sources are load.py's."""

from __future__ import annotations

import fnmatch
import ipaddress
import math
import re
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from remediator.document import fault
from remediator.errors import UsageError
from remediator.fields import Duration, Size
from remediator.model import Mode
from remediator.settings.shipped import SHIPPED, shipped
from remediator.windows import Window

if TYPE_CHECKING:
    from pydantic import ValidationInfo

__all__ = [
    "API_VERSION",
    "LEAST_RETENTION",
    "PLACES",
    "URGENT",
    "Breaker",
    "Event",
    "Grafana",
    "Notify",
    "Section",
    "Settings",
    "Share",
    "Slack",
    "Storm",
]

API_VERSION: Literal["remediator.dev/v1"] = "remediator.dev/v1"


class Section(BaseModel):
    """Base of all of them: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)  # a value may be a secret at a wrong place


class Share(Section):
    """A part of a whole: ``20%`` of it, or a count."""

    percent: float | None = None
    count: int | None = None

    def of(self, total: int) -> int:
        """How many of ``total`` that is; a percentage is rounded up, so that it is not nothing in a small cluster."""
        return self.count if self.count is not None else math.ceil(total * (self.percent or 0) / 100)

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


def _share(value: Any) -> Share:
    if isinstance(value, Share):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Share(count=value)
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", value, re.ASCII) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:
        raise ValueError("must be a percentage such as 20%, or a count such as 3")
    return Share(percent=float(found[1]))


def _path(value: Any, info: ValidationInfo) -> Any:
    """Relative to the file's folder, which comes as context; ``~`` is the home folder."""
    if value == "":
        raise ValueError("must not be empty")
    if not isinstance(value, str):
        return value
    try:
        return Path((info.context or {}).get("base", ""), Path(value).expanduser())
    except RuntimeError as error:
        raise ValueError(f'the home folder in "{value}" cannot be found; write the whole path') from error


def _playbooks(value: Any, info: ValidationInfo) -> Any:
    """A path, or the word for the shipped ones; a file or folder of that name is ``./shipped``."""
    return shipped() if value == SHIPPED else _path(value, info)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a URL; write for example http://prometheus:9090")  # it may hold a secret all the same
    _check_port(parts)
    if parts.password:
        raise ValueError("a password does not belong into a URL here; use token_file")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than 0s")
    return value


FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string"})]
PlaybooksPath = Annotated[Path, BeforeValidator(_playbooks), WithJsonSchema({"type": "string"})]
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "format": "uri"})]
Positive = Annotated[Duration, AfterValidator(_positive)]
ShareField = Annotated[
    Share,
    BeforeValidator(_share),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^\d{1,3}(\.\d+)?%$"}, {"type": "integer", "minimum": 0}]}),
]


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535 or ("[" in listen) != (":" in host):
        raise ValueError(f'"{listen}" is not host:port; write for example 0.0.0.0:8080 or [::]:8080')
    return host, int(port)


def _listen(value: str) -> str:
    _split(value)
    return value


def _check_port(parts: SplitResult) -> None:
    """What is wrong with a port may be a password with a ``/`` in it, so it is not told."""
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is no number; in a password write / as %2F") from None


def _store_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("sqlite", "postgresql"):
        what = f'"{parts.scheme}"' if parts.scheme else "this"
        raise ValueError(f"{what} is not a store; write sqlite:////path or postgresql://user@host/database")
    _check_port(parts)
    if parts.scheme == "sqlite" and (parts.netloc or len(parts.path) < len("/x")):
        raise ValueError("write sqlite:////absolute/path, with four slashes")
    return value


class NamedToken(Section):
    """A bearer token of one person or program; what is done with it is recorded under its name."""

    name: str = Field(pattern=r"^[^\s.,/](?:[^\x00-\x1f\x7f-\x9f]{0,98}\S)?$", description="who holds it, such as anna")
    file: FilePath = Field(description="the file with the token")
    scope: Literal["webhook", "read", "write"] = Field(default="read", description="what it opens")


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f'"{value}" is not an address or network; write for example 10.0.0.7 or 10.42.0.0/16') from None


class IdentityProxy(Section):
    """A proxy that asks people who they are (Authelia and the like) and says so in Remote-User and Remote-Groups."""

    addresses: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), max_length=100, description="where it calls from; its headers count from nowhere else"
    )
    read_groups: tuple[str, ...] = Field(default=(), max_length=100, description="groups that may read")
    write_groups: tuple[str, ...] = Field(default=(), max_length=100, description="groups that may read and steer")

    @model_validator(mode="after")
    def _whole(self) -> IdentityProxy:
        if self.addresses and not (self.read_groups or self.write_groups):
            raise ValueError("nobody may do anything: name read_groups or write_groups")
        if (self.read_groups or self.write_groups) and not self.addresses:
            raise ValueError("addresses is missing: say where the proxy calls from")
        return self


class Server(Section):
    """Where the daemon listens, and who may ask what."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(default="0.0.0.0:8080", description="host:port; [::]:8080 for IPv6")
    webhook_token_file: FilePath | None = Field(default=None, description="bearer token for POST /api/v1/alerts")
    read_token_file: FilePath | None = Field(default=None, description="bearer token for GET of the API and the pages; absent: nobody may")
    write_token_file: FilePath | None = Field(default=None, description="bearer token for run, cancel, pause, reload; absent: nobody may")
    tokens: tuple[NamedToken, ...] = Field(default=(), max_length=1000, description="tokens of one person or program each")
    proxy: IdentityProxy = Field(default_factory=IdentityProxy)
    insecure: StrictBool = Field(default=False, description="serve without tokens; only on a loopback address")
    max_body: Size = Field(default=4 * 1024 * 1024, gt=0, le=64 * 1024 * 1024, description="the largest webhook body")

    @property
    def host(self) -> str:
        """The address without brackets and port."""
        return _split(self.listen)[0]

    @property
    def port(self) -> int:
        """0 lets the system choose one."""
        return _split(self.listen)[1]

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _safe(self) -> Server:
        if self.insecure and not self.loopback:
            raise fault(f"true is only for a loopback address such as 127.0.0.1:8080, not {self.listen}", key="insecure")
        names = [token.name for token in self.tokens]
        if len(names) != len(set(names)):
            raise fault("two tokens have the same name", key="tokens")
        if self.webhook_token_file is None and not self.insecure and all(token.scope != "webhook" for token in self.tokens):
            raise ValueError("webhook_token_file is missing; to serve without tokens, say insecure: true and listen on 127.0.0.1:8080")
        return self


LEAST_RETENTION = timedelta(days=31)
"""A day more than the breaker looks back; no gate looks back further."""


class Store(Section):
    """Where the journal is kept."""

    url: Annotated[str, AfterValidator(_store_url)] = Field(
        default="sqlite:////var/lib/remediator/remediator.db",
        repr=False,  # it may hold a password
        description="sqlite:////absolute/path, sqlite:///path beside this file, or postgresql://user@host/database",
    )
    password_file: FilePath | None = Field(default=None, description="the database's password, instead of writing it into the URL")
    retention: Positive = Field(
        default=timedelta(days=90),
        ge=LEAST_RETENTION,
        description="how long records are kept, at least 31d since the breaker and the gates look back; what is open or not put back stays",
    )

    anchor: FilePath | None = Field(
        default=None,
        description="a file on another volume that remembers where the journal's chain stood; a journal that was rewritten then shows",
    )

    @model_validator(mode="after")
    def _one_password(self) -> Store:
        parts = urlsplit(self.url)
        if self.password_file is not None and (parts.scheme == "sqlite" or parts.password or not parts.username):
            raise fault("needs a url such as postgresql://user@host/database, without a password in it", key="password_file")
        return self

    def full_url(self) -> str:
        """The URL with the password from its file. Raises UsageError if the file cannot be read."""
        if self.password_file is None:
            return self.url
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"store.password_file {self.password_file} cannot be read: {error.strerror}") from error
        user, _, rest = urlsplit(self.url).netloc.rpartition("@")
        return self.url.replace(f"{user}@{rest}", f"{user}:{quote(password, safe='')}@{rest}", 1)


class Election(Section):
    """Several replicas on one PostgreSQL database, of which one acts."""

    enabled: StrictBool = Field(default=False, description="take part in an election by a Lease; without it this is the only replica")
    namespace: str = Field(default="", description="of the Lease; empty: the pod's own, as POD_NAMESPACE says")
    lease: str = Field(default="remediator", pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", description="the Lease's name")


class Kubernetes(Section):
    """How to reach the cluster; empty means in-cluster."""

    kubeconfig: FilePath | None = None
    context: str | None = None
    server: Url | None = Field(default=None, description="a plain URL without authentication: the simulated cluster, kubectl proxy")
    timeout: Positive = Field(default=timedelta(seconds=10), description="of one call")
    events: StrictBool = Field(default=True, description="write Events about runs and refusals on the objects that they are about")

    @model_validator(mode="after")
    def _one_way(self) -> Kubernetes:
        if self.server is not None and (self.kubeconfig is not None or self.context is not None):
            raise fault("stands alone; with kubeconfig or context it would be unclear which cluster is meant", key="server")
        return self


class Cilium(Section):
    """Where Cilium lives in this cluster."""

    namespace: str = Field(default="kube-system", min_length=1)
    agent_selector: str = Field(default="k8s-app=cilium", min_length=1, description="label selector of the agents' pods")
    health_port: StrictInt = Field(
        default=4240, ge=0, le=65535, description="where agents answer one another; the daemon looks there whom it reaches; 0: it does not"
    )


class Prometheus(Section):
    """Where metrics come from; without it queries cannot be read, and whoever needs one refuses."""

    url: Url | None = None
    token_file: FilePath | None = None
    timeout: Positive = Field(default=timedelta(seconds=10), description="of one query")
    max_age: Positive = Field(default=timedelta(minutes=2), description="older samples are stale")


class Alertmanager(Section):
    """Whom to ask whether an episode still fires."""

    url: Url | None = None
    token_file: FilePath | None = None
    timeout: Positive = Field(default=timedelta(seconds=10), description="of one question")


class Tracing(Section):
    """Where traces of runs go; needs the extra otel."""

    endpoint: Url | None = Field(default=None, description="of a collector (OTLP over HTTP), such as http://otel-collector:4318")
    token_file: FilePath | None = Field(default=None, description="bearer token")
    timeout: Positive = Field(default=timedelta(seconds=5), le=timedelta(minutes=1), description="of one export")


class Storm(Section):
    """When so many episodes begin that one cause is likelier than many."""

    episodes: StrictInt = Field(default=20, ge=2, le=500, description="episodes that make a storm; several about one node count once")
    within: Positive = Field(default=timedelta(minutes=5), le=timedelta(hours=1), description="in so long a time")
    cooldown: Positive = Field(default=timedelta(minutes=10), le=timedelta(hours=1), description="of quiet after it before alerts may act")


class Breaker(Section):
    """When live runs that may disturb open the breaker, which stays open until a person resets it."""

    failures: StrictInt = Field(default=5, ge=1, le=1000, description="runs that failed or did not heal")
    runs: StrictInt = Field(default=20, ge=1, le=10_000, description="runs, however they ended")
    within: Positive = Field(default=timedelta(hours=6), le=timedelta(days=7), description="in so long a time")


class Limits(Section):
    """What all playbooks together may do."""

    concurrent_runs: StrictInt = Field(default=4, ge=1, le=1000)
    concurrent_disruptive: StrictInt = Field(default=1, ge=0, le=1000)
    concurrent_per_zone: StrictInt = Field(default=1, ge=1, le=1000, description="of the disruptive ones, on nodes of one zone")
    disruptive_per_hour: StrictInt = Field(default=6, ge=0, le=10_000)
    max_disturbed: ShareField = Field(
        default_factory=lambda: Share(percent=20), description="of all nodes, whoever disturbed them; 20% if absent"
    )
    min_speakers: StrictInt = Field(default=2, ge=1, le=1000, description="of every announced address")
    storm: Storm = Field(default_factory=Storm)
    breaker: Breaker = Field(default_factory=Breaker)

    @model_validator(mode="after")
    def _consistent(self) -> Limits:
        if self.concurrent_disruptive > self.concurrent_runs:
            raise fault("is more than concurrent_runs", key="concurrent_disruptive")
        return self


class Approval(Section):
    """How people are asked before a run in mode suggest begins, and by steps with the action approve."""

    expires: Positive = Field(
        default=timedelta(hours=4), description="the run ends if nobody answered by then; a playbook may say otherwise"
    )
    people: StrictInt = Field(default=1, ge=1, le=5, description="how many different people must say yes; a playbook may ask for more")
    waiting: StrictInt = Field(default=20, ge=1, le=1000, description="runs that may wait for people at once; further alerts are refused")


class Demotion(Section):
    """When a playbook loses the right to act by itself."""

    failures: StrictInt = Field(default=3, ge=0, le=100, description="runs in a row that failed or did not heal; 0: never")


class Event(StrEnum):
    """What people can be told of."""

    APPROVAL = "approval"
    NOT_HEALED = "not_healed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    BREAKER = "breaker"
    STEP = "step"
    BEGUN = "begun"
    HEALED = "healed"
    DONE = "done"
    CANCELLED = "cancelled"
    PREDICTED = "predicted"


PLACES = ("event", "playbook", "target", "state", "reason", "detail", "alert", "run", "summary", "link", "approve")
"""What a message's templates may name."""
_PLACE = re.compile(r"\$\{([^}]*)\}?")
URGENT = (Event.APPROVAL, Event.NOT_HEALED, Event.FAILED, Event.UNKNOWN, Event.EXPIRED, Event.BREAKER, Event.STEP)
"""What needs people; told of by default."""


def _words(value: str) -> str:
    for place in _PLACE.finditer(value):
        if place[1] not in PLACES or not place[0].endswith("}"):
            raise fault(f'"{place[0]}" cannot be filled in; known are {", ".join(PLACES)}', offset=place.start())
    return value


Words = Annotated[str, AfterValidator(_words)]


class Slack(Section):
    """A channel of Slack, or of what speaks its Web API, in which a run has one message that is kept up to date."""

    token_file: FilePath = Field(description="token of a bot that is in the channel and may chat:write")
    channel: str = Field(pattern=r"^\S{1,80}$", description="its id, such as C0123456789; a name may do for public ones")
    url: Url = Field(default="https://slack.com/api", description="of the Web API")


class Notify(Section):
    """One way to tell people: a signed webhook, whatever apprise knows, or a message in Slack that is kept up to date."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")] = Field(description="in logs and metrics")
    url: Url | None = Field(default=None, description="of a webhook")
    url_file: FilePath | None = Field(default=None, description="a file with the webhook's URL, where the URL itself is a secret")
    secret_file: FilePath | None = Field(default=None, description="what webhooks are signed with (HMAC-SHA256)")
    apprise_file: FilePath | None = Field(default=None, description="a file with apprise URLs, one a line; needs the extra apprise")
    slack: Slack | None = Field(default=None, description="one message a run, kept up to date")
    events: tuple[Event, ...] = Field(default=URGENT, min_length=1, description="what it tells of")
    playbooks: tuple[str, ...] = Field(default=("*",), min_length=1, description="of runs of these, by name or glob")
    title: Words = Field(default="remediator: ${playbook} on ${target}: ${event}", max_length=500)
    text: Words = Field(default="${summary}", max_length=4000)
    link: Url | None = Field(default=None, description="where the daemon's pages are, for people who follow a message")
    approve_links: bool = Field(default=False, description="questions come with a link that lets whoever has it answer, once")
    timeout: Positive = Field(default=timedelta(seconds=10), le=timedelta(minutes=1), description="of one try")

    @model_validator(mode="after")
    def _one_way(self) -> Notify:
        given = [key for key in ("url", "url_file", "apprise_file", "slack") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of url, url_file, apprise_file and slack; it has {' and '.join(given) or 'none'}")
        if self.secret_file is not None and (self.apprise_file is not None or self.slack is not None):
            raise fault(f"signs webhooks; {'Slack' if self.slack else 'apprise'} has none", key="secret_file")
        if self.approve_links and self.link is None:
            raise fault("needs link: where the daemon's pages are", key="approve_links")
        return self

    def takes(self, event: Event, playbook: str) -> bool:
        """Whether it tells of this."""
        return event in self.events and (not playbook or any(fnmatch.fnmatchcase(playbook, glob) for glob in self.playbooks))


class Grafana(Section):
    """Where runs are annotated."""

    url: Url | None = Field(default=None, description="of Grafana, such as http://grafana.monitoring:3000; absent: nothing is annotated")
    token_file: FilePath | None = Field(default=None, description="token of a service account that may write annotations")
    tags: tuple[Annotated[str, Field(min_length=1, max_length=50)], ...] = Field(
        default=("remediator",), min_length=1, max_length=10, description="of every annotation, beside playbook, target and how it ended"
    )
    link: Url | None = Field(default=None, description="where the daemon's pages are, for people who follow an annotation")
    timeout: Positive = Field(default=timedelta(seconds=10), le=timedelta(minutes=1), description="of one try")

    @model_validator(mode="after")
    def _whole(self) -> Grafana:
        if self.url is not None and self.token_file is None:
            raise ValueError("token_file is missing: Grafana takes annotations only from a service account")
        return self


def _named_once(value: tuple[Notify, ...]) -> tuple[Notify, ...]:
    names = [one.name for one in value]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ValueError(f'the name "{twice}" stands twice')
    return value


class Settings(Section):
    """Everything that the settings file says."""

    api_version: Literal["remediator.dev/v1"] = Field(default=API_VERSION, alias="apiVersion")
    kind: Literal["Settings"] = "Settings"
    server: Server = Field(default_factory=Server)
    store: Store = Field(default_factory=Store)
    election: Election = Field(default_factory=Election)
    playbooks: tuple[PlaybooksPath, ...] | None = Field(
        default=None, min_length=1, description='files and folders, and "shipped" for those that come with the program; absent: these alone'
    )
    mode: Mode = Field(default=Mode.AUTO, description="ceiling over all playbooks")
    modes: dict[str, Mode] = Field(default_factory=dict, description="by playbook name or glob, instead of what the playbook says")
    dry_run: StrictBool = Field(default=False, description="do everything but change the cluster")
    approval: Approval = Field(default_factory=Approval)
    demotion: Demotion = Field(default_factory=Demotion)
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    cilium: Cilium = Field(default_factory=Cilium)
    prometheus: Prometheus = Field(default_factory=Prometheus)
    alertmanager: Alertmanager = Field(default_factory=Alertmanager)
    tracing: Tracing = Field(default_factory=Tracing)
    grafana: Grafana = Field(default_factory=Grafana)
    limits: Limits = Field(default_factory=Limits)
    maintenance: tuple[Window, ...] = Field(default=(), max_length=100, description="windows in which no alert leads to anything")
    notify: Annotated[tuple[Notify, ...], AfterValidator(_named_once)] = Field(default=(), max_length=20, description="how people are told")

    @model_validator(mode="after")
    def _shared(self) -> Settings:
        if self.election.enabled and urlsplit(self.store.url).scheme == "sqlite":
            raise fault("needs store.url: postgresql://..., since replicas cannot share a SQLite file", key="election")
        return self
