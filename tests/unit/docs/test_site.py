"""The site of docs/: built strictly, whole, and with nothing from elsewhere."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys

import pytest

HERE = "https://git.example/remediator/blob/main"


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """Where the site was built, the way `make docs` does it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "REPOSITORY": ""}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("INFO ")]) == (0, [])
    return folder


@pytest.fixture
def relinked(root):
    """relinked(text, page, repository): the text as the site has it, and what it complained of."""
    there = runpy.run_path(str(root / "docs" / "site.py"))["relinked"]

    def call(text, page="x.md", repository=""):
        complaints = []
        return there(text, page, repository, lambda said, *named: complaints.append(said % named)), complaints

    return call


def test_every_page_and_picture_is_on_it(root, site):
    pages = {path.relative_to(root / "docs").with_suffix(".html") for path in (root / "docs").rglob("*.md")}
    pictures = {path.relative_to(root / "docs") for path in (root / "docs").rglob("*") if path.suffix in (".png", ".svg")}
    assert len(pages) > 40
    assert sorted(one for one in pages | pictures if not (site / one).is_file()) == []
    assert all((site / f"{name}.html").is_file() for name in ("index", "architecture", "contributing", "changelog"))
    assert not list(site.rglob("*.py"))


def test_a_browser_fetches_nothing_from_elsewhere_and_every_link_leads_somewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)="?([^"\s>]+)', text)
        assert fetched, page
        assert [url for url in fetched if re.match(r"(?:[a-z]+:)?//", url)] == [], page
        if page.name == "404.html":
            continue  # its links count from the server's top
        for target in [*fetched, *re.findall(r'<a\b[^>]*\bhref="([^"#]+)', text)]:
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target.partition("#")[0]).exists(), (page, target)


def test_a_file_outside_of_docs_is_named_or_linked(relinked):
    text = "See [the rules](../deploy/prometheus/rules.yaml) and [`deploy/`](../deploy)."
    assert relinked(text) == ("See the rules (`deploy/prometheus/rules.yaml`) and `deploy/`.", [])
    linked = f"See [the rules]({HERE}/deploy/prometheus/rules.yaml) and [`deploy/`]({HERE}/deploy)."
    assert relinked(text, repository=HERE) == (linked, [])


def test_pages_of_the_top_and_of_docs_find_one_another(relinked):
    text = "[a](docs/gates.md#storm) [b](ARCHITECTURE.md) ![c](docs/pictures/run-light.png) [d](docs/adr/)"
    moved = "[a](gates.md#storm) [b](architecture.md) ![c](pictures/run-light.png) [d](adr/0001-lock-file-without-hosts.md)"
    assert relinked(text, "index.md") == (moved, [])
    assert relinked("[up](../../README.md) [beside](node-down.md)", "playbooks/x.md") == ("[up](../index.md) [beside](node-down.md)", [])


def test_a_link_to_nothing_is_told(relinked):
    _, complaints = relinked("[gone](../deploy/gone.yaml)")
    assert complaints == ["docs/x.md links to ../deploy/gone.yaml, which does not exist"]


def test_code_and_addresses_stay_as_they_are(relinked):
    text = "[a](https://x.example/b.md) [c](#d)\n\n```\n[e](../nowhere)\n```\n"
    assert relinked(text, repository=HERE) == (text, [])
