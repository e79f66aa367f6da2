"""Mute what else is reported of the target while a run works: a silence in Alertmanager that ends with the run, however that ends.

In: matchers, or which labels the muted alerts share with the target or with the run's own alert. Out: one silence, marked as ours.
Refused: a silence that would mute the run's own alert. Alertmanager tells of nothing that is muted, the end of an alert included, so the
run would never hear that its alert resolved.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from remediator.actions import Action, Context, Observed, Parameters
from remediator.clock import iso, parse_time
from remediator.errors import ExpressionError, Refused, StepFailed
from remediator.fields import Duration
from remediator.model import Change, Resource
from remediator.monitoring import Match
from remediator.playbook.matcher import Matcher, parse_matcher
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.monitoring import Alertmanager, Silence

__all__ = ["AUTHOR", "Mute"]

AUTHOR = "remediator"
"""``createdBy`` of our silences."""


def _is_matcher(text: str) -> str:
    try:
        parse_matcher(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from error
    return text


class SilenceParameters(Parameters):
    """``{action: alertmanager.silence, duration: 1h}``, ``{..., labels: [node]}``, ``{..., matchers: ['node="${target.name}"']}``"""

    duration: Duration = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        le=timedelta(days=1),
        description="after which it ends by itself, if the run has not ended before",
    )
    matchers: tuple[Annotated[str, AfterValidator(_is_matcher)], ...] = Field(
        default=(), max_length=10, description="in Alertmanager's syntax; a muted alert fits all of them"
    )
    labels: tuple[str, ...] = Field(
        default=(), max_length=10, description="labels of the run's alert whose values the muted alerts share; its own name is left out"
    )


class Mute(Action[SilenceParameters]):
    """One silence."""

    name: ClassVar[str] = "alertmanager.silence"
    summary: ClassVar[str] = "mute what else is reported of the target while the run works"
    changes: ClassVar[str] = "one silence in Alertmanager, which ends with the run, and else by itself"
    undone_by: ClassVar[str] = "ending the silence, if nobody changed it since"
    ends_with_run: ClassVar[bool] = True
    Parameters: ClassVar[type[Parameters]] = SilenceParameters

    async def check(self, ctx: Context, parameters: SilenceParameters) -> None:
        """See Action."""
        _door(ctx)
        if ctx.changes:
            return
        matchers = _matchers(ctx, parameters)
        if all(matcher.matches({}) for matcher in matchers):
            raise Refused(Reason.TARGET_AMBIGUOUS, "the matchers fit alerts that carry none of these labels: they would mute too much")
        alert = ctx.run.alert
        if alert is not None and all(matcher.matches(alert.labels) for matcher in matchers):
            words = " ".join(map(str, matchers))
            raise Refused(Reason.SILENCED, f"{words} would mute the run's own alert {alert.name}, so that nobody would hear of its end")

    async def act(self, ctx: Context, parameters: SilenceParameters) -> str:
        """See Action."""
        alertmanager, matchers = _door(ctx), _matchers(ctx, parameters)
        words = f"{' '.join(map(str, matchers))} for {format_duration(parameters.duration)}"
        if ctx.changes:
            return f"muted {words}"
        await ctx.plan([f"mute {words} in Alertmanager; it ends with the run, or by itself"])
        starts = ctx.clock.now()
        wanted = [_match(matcher) for matcher in matchers]
        ends = starts + parameters.duration
        why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason

        async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
            if not dry_run:
                comment = f"{ctx.run.playbook} works on {ctx.run.target.key}: {why} {_mark(ctx.run.id, request_id)}"
                await alertmanager.silence(wanted, starts=starts, ends=ends, by=AUTHOR, comment=comment)

        after = {"matchers": [str(matcher) for matcher in matchers], "ends_at": iso(ends)}
        # Made twice it mutes no more than once, and both end by themselves.
        await ctx.change("create", Resource(kind="Silence", name=ctx.run.id), call, after=after, repeatable=True)
        return f"{'would mute' if ctx.dry_run else 'muted'} {words}"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: its comment names the change."""
        found = await _found(ctx, change)
        if change.undoes:
            return Observed.APPLIED if found is None or found.over else Observed.ABSENT
        return Observed.APPLIED if found else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        alertmanager = _door(ctx)
        found = await _found(ctx, change)
        if found is None or found.over:
            return "the silence had ended already"
        # Whoever edits a silence takes it over: its time, its author or its comment is another one then.
        if found.created_by != AUTHOR or iso(found.ends_at) != iso(parse_time((change.after or {})["ends_at"])):
            return None

        async def call(_: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
            if not dry_run:
                await alertmanager.end_silence(found.id)

        await ctx.change("delete", change.resource, call, before={"change": change.request_id}, undoable=False, repeatable=True)
        return f"ended the silence {found.id}"


def _door(ctx: Context) -> Alertmanager:
    if ctx.alertmanager is None:
        raise StepFailed("the settings name no alertmanager.url")
    return ctx.alertmanager


def _mark(run: str, request_id: str) -> str:
    return f"(remediator run {run}, change {request_id})"


async def _found(ctx: Context, change: Change) -> Silence | None:
    """The silence that ``change`` made, or that it ends."""
    mark = _mark(change.run, (change.before or {}).get("change", change.request_id))
    return next((one for one in await _door(ctx).silences() if one.comment.endswith(mark)), None)


def _matchers(ctx: Context, parameters: SilenceParameters) -> list[Matcher]:
    """What the file says; else what the alert or the target says, all but the run's own alert."""
    target, alert = ctx.run.target, ctx.run.alert
    if parameters.matchers:
        return [parse_matcher(text) for text in parameters.matchers]
    if parameters.labels:
        if alert is None:
            raise Refused(Reason.TARGET_MISSING, "labels of the run's alert are asked for, and it has none: a person began it")
        missing = [label for label in parameters.labels if not alert.labels.get(label)]
        if missing:
            raise Refused(Reason.TARGET_MISSING, f"the alert has no label {', '.join(missing)}")
        found = [Matcher(label, "=", alert.labels[label]) for label in parameters.labels]
    else:
        found = [Matcher(target.kind.lower(), "=", target.name)]
        found += [Matcher("namespace", "=", target.namespace)] if target.namespace else []
    return [*found, Matcher("alertname", "!=", alert.name)] if alert is not None else found


def _match(matcher: Matcher) -> Match:
    return Match(name=matcher.label, value=matcher.value, is_regex=matcher.op in ("=~", "!~"), is_equal=matcher.op in ("=", "=~"))
