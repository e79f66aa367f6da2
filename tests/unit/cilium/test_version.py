"""Which version the agents run, and what is said of one that is not known."""

from __future__ import annotations

import pytest

from remediator.cilium.version import judge

DIGEST = "@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("quay.io/cilium/cilium:v1.16.0", "1.16.0"),
        (f"quay.io/cilium/cilium:v1.17.2{DIGEST}", "1.17.2"),
        ("registry.example:5000/mirror/cilium:1.18.3-cee.1", "1.18.3"),
        ("quay.io/cilium/cilium-ci:v1.19", "1.19"),
        ("cilium:v1.20.2", "1.20.2"),
    ],
)
def test_a_version_that_is_known_is_only_named(image, shown):
    found = judge([image, image])
    assert (found.found, found.trouble, str(found)) == ((shown,), "", shown)


@pytest.mark.parametrize(
    "image", ["cilium:latest", "quay.io/cilium/cilium", f"cilium{DIGEST}", "registry.example:5000/cilium", "cilium:v117", ""]
)
def test_an_image_that_tells_no_version_is_named(image):
    found = judge([image])
    assert found.found == ()
    assert found.trouble.startswith(f"the agents' image {image} tells no version; nothing is refused for that")


@pytest.mark.parametrize(("tag", "shown"), [("v1.15.9", "1.15.9"), ("v1.21.0-rc.1", "1.21.0"), ("v2.0.0", "2.0.0"), ("v1.9", "1.9")])
def test_a_version_outside_of_those_is_told_with_what_then_holds(tag, shown):
    found = judge([f"quay.io/cilium/cilium:{tag}"])
    assert found.found == (shown,)
    assert found.trouble.startswith(f"Cilium {shown} is outside of 1.16 to 1.20, which remediator was tested with; nothing is refused")
    assert found.trouble.endswith("keep playbooks at mode suggest until you know that they fit")


def test_an_upgrade_shows_both_in_their_order():
    found = judge(["c:v1.20.0", "c:v1.9.4", "c:v1.20.0"])
    assert found.found == ("1.9.4", "1.20.0")
    assert str(found).startswith("1.9.4, 1.20.0; Cilium 1.9.4 is outside")


def test_without_agents_nobody_knows():
    assert judge([]).trouble.startswith("no agent was found, so which version of Cilium runs here is not known; nothing is refused")
