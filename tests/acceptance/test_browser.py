"""A person on call with a phone, in real Chromium: sees what waits, approves, watches it heal live, undoes; a stranger sees nothing.

The same by commands alone.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(240)

PHONE = {"width": 390, "height": 844}
SLOW = 60_000
"""Milliseconds that anything may take on a busy machine."""

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: keep-away, summary: No new pods for a node in trouble}
when:
  alerts: ['alertname="NodeOdd"']
  target: {kind: Node, name: '${alert.labels.node}'}
mode: suggest
gates: {cooldown: 1m, attempts: {max: 5, within: 1h}}
ladder:
- name: cordon
  steps:
  - cordon: {action: node.cordon}
  - settle: {action: wait, for: 2s}
verify:
  kube: {kind: Node, fields: 'metadata.name=${target.name}'}
  holds: size(objects) == 1 && has(objects[0].spec.unschedulable) && objects[0].spec.unschedulable
  within: 1m
  hold: 1s
on_resolved: keep
"""


@pytest.fixture
def field(simulation_process):
    return simulation_process()


@pytest.fixture
def keeper(field, daemon):
    return daemon(playbooks=[PLAYBOOK], **field.settings)


@pytest.fixture
def waits(field, keeper, payload):
    """An alert with ugly labels, and the run that waits for people because of it."""
    ugly = "<img src=x onerror=alert(1)>\x1b[31m" + "A" * 10_000
    labels = {"alertname": "NodeOdd", "node": "node-2", "note": ugly}
    now = field.call("GET", "/sim/clock")["now"]
    field.call("POST", "/alertmanager/api/v2/alerts", [{"labels": labels, "startsAt": now, "endsAt": "2100-01-01T00:00:00Z"}])
    (held,) = field.call("GET", "/alertmanager/api/v2/alerts")
    alert = {"status": "firing", "labels": labels, "annotations": {"summary": ugly}, "startsAt": held["startsAt"]}

    def send():
        keeper.send(payload({**alert, "fingerprint": held["fingerprint"]}))
        page = keeper.wait_for("a run that waits", lambda: keeper.get("/api/v1/runs?state=awaiting_approval")["items"])
        return page[0]["id"]

    return send


def sign_in(page, keeper, name="anna"):
    page.fill("[name=token]", keeper.token_file.read_text())
    page.fill("[name=name]", name)
    page.click("main button")


def press(page, label, yes, reason):
    page.locator("main summary", has_text=label).first.click()
    form = page.locator("main details.confirm[open]")
    form.locator("[name=reason]").fill(reason)
    form.get_by_role("button", name=yes).click()


def cordoned(field):
    return field.call("GET", "/api/v1/nodes/node-2")["spec"].get("unschedulable", False)


FAINT = """() => {
  const channel = (of) => (of /= 255) <= 0.04045 ? of / 12.92 : ((of + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgba = (text) => text.match(/[0-9.]+/g).map(Number);
  const ground = (of) => { for (; of; of = of.parentElement) { const found = rgba(getComputedStyle(of).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found; } return [255, 255, 255]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const of = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !of.checkVisibility() || of.closest("svg")) continue;
    const both = [light(rgba(getComputedStyle(of).color)), light(ground(of))];
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${walk.currentNode.data.trim().slice(0, 60)}`);
  }
  return found;
}"""
"""Text whose contrast is below WCAG AA's 4.5 to 1."""


def seen(page, keeper, path):
    """A page on a phone: nothing beside its edge, every text legible in both themes with all that is folded opened."""
    page.goto(f"{keeper.url}{path}")
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate(FAINT) == [], (path, theme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    return page


@pytest.mark.chromium
def test_the_person_on_call(browser, field, keeper, waits):
    stranger = browser.new_context()
    nothing = stranger.new_page()
    nothing.goto(f"{keeper.url}/")
    assert "/login?next=/" in nothing.url
    assert "keep-away" not in nothing.content()

    context = browser.new_context(viewport=PHONE)
    context.set_default_timeout(SLOW)
    faults = []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.goto(f"{keeper.url}/")
    sign_in(page, keeper)
    page.get_by_role("heading", name="All quiet").wait_for()
    page.locator("#live", has_text="live").wait_for()

    run = waits()
    page.get_by_role("heading", name="1 run waits for a person").wait_for()  # by itself: nobody loaded the page again
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("article.card.ask a", has_text="keep-away").click()
    page.wait_for_url(f"**/runs/{run}")
    assert not cordoned(field)
    press(page, "Approve", "Yes, do it", "looked at it")
    page.locator("h1 .state", has_text="healed").wait_for()  # live, from the event stream
    assert cordoned(field)
    timeline = page.locator(".timeline").inner_text()
    assert "approved by anna: looked at it" in timeline
    assert "unschedulable" in page.locator("#changes").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    press(page, "Undo", "Yes, put it back", "false alarm")
    page.locator("#changes .state", has_text="undone").first.wait_for()
    keeper.wait_for("a node that takes pods again", lambda: not cordoned(field))
    page.get_by_text("anna asked to put back what it changed: false alarm").wait_for()
    assert "anna asked to put back what it changed: false alarm" in keeper.why(run)
    assert "1 target" in seen(page, keeper, "/report").inner_text("main")
    for path in ("/", f"/runs/{run}", "/cluster", "/playbooks", "/playbooks/keep-away"):
        seen(page, keeper, path)
    assert nothing.goto(f"{keeper.url}/runs/{run}").url.startswith(f"{keeper.url}/login")
    assert not faults


def test_the_same_by_commands_alone(field, keeper, waits):
    def said(*words, code=0):
        done = keeper.cli(*words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def escapes(text):
        return "\x1b" in text

    run = waits()
    assert said("runs", "list", "--state", "awaiting_approval", "-o", "name") == f"{run}\n"
    shown = said("runs", "show", run)
    assert "keep-away" in shown
    assert "Node/node-2" in shown
    assert not escapes(shown)
    assert not cordoned(field)
    assert "approved" in said("runs", "approve", run, "--reason", "looked at it")
    watched = said("runs", "watch", run)
    assert "healed" in watched
    assert cordoned(field)
    assert "looked at it" in watched
    said("runs", "undo", run, "--reason", "false alarm")
    keeper.wait_for("a node that takes pods again", lambda: not cordoned(field))
    keeper.wait_for("the record of it", lambda: "undone" in said("runs", "show", run))
    told = said("why", run)
    assert "asked to put back what it changed: false alarm" in told
    assert not escapes(told + said("alerts", "list", "--all"))
