"""``serve``: the daemon."""

from __future__ import annotations

import click

from remediator.cli.frame import command, configured, flags
from remediator.errors import UsageError
from remediator.imports import without

__all__ = ["serve"]


@command(
    name="serve",
    examples=[
        "remediator serve --config /etc/remediator/settings.yaml",
        "remediator serve --config settings.yaml --dry-run --listen 127.0.0.1:8080",
    ],
)
@click.option("--dry-run", is_flag=True, help="Predict everything, change nothing, whatever the settings say.")
@click.option("--listen", metavar="ADDR", help="Listen here (host:port) instead of where the settings say.")
@configured
def serve(dry_run: bool, listen: str | None) -> int:
    """Run the daemon.

    SIGTERM lets the current call end and exits with 0; open runs go on at the next start. SIGHUP reads the playbooks again.
    """
    from remediator.cli.session import settings_of

    given = flags()
    if not given.config:
        raise UsageError("serve needs the settings file: --config FILE or REMEDIATOR_CONFIG")
    said = {"server.listen": listen, "dry_run": "true" if dry_run else None}
    settings = settings_of(given.config, {name: text for name, text in said.items() if text is not None})

    import gc

    # After the settings, so that a mistake in them is told without waiting for all of the daemon's imports. Those leave no garbage behind;
    # the daemon enables the collector when it has started.
    gc.disable()
    try:
        with without("rich"):  # for tracebacks that no log of ours shows, 6 MB
            import structlog  # noqa: F401 - before all those that import it
        import uvloop

        from remediator.daemon import serve as serve_daemon
        from remediator.telemetry import configure_logging

        configure_logging(level="debug" if given.verbose else "info")
        return uvloop.run(serve_daemon(settings, dry_run=settings.dry_run, listen=settings.server.listen))
    finally:
        gc.enable()
