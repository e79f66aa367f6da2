"""Whose cordon it is: the API server keeps for each field who set it, and the real kubectl says so of itself.

``kubectl uncordon`` takes ``spec.unschedulable`` away and leaves every annotation, so a note alone does not tell.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from remediator.drain.cordon import ANNOTATION, cordoned, is_ours, owner
from remediator.kube import Kube, kinds

NODE = "node-5"
NOTE = {"op": "add", "path": "/metadata/annotations/remediator.dev~1cordoned-by", "value": '{"run":"r"}'}


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.controlplane)])
def where(request):
    """How Kube.connect, and kubectl, find the one or the other."""
    if request.param == "simulated":
        url = request.getfixturevalue("simulation").url
        return {"server": url}, (f"--server={url}", "--kubeconfig=/dev/null")
    path = request.getfixturevalue("control_plane").kubeconfig
    return {"kubeconfig": Path(path)}, (f"--kubeconfig={path}",)


@pytest.fixture
def kubectl(where, tmp_path):
    beside = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere")) / "kubectl"
    binary = str(beside) if beside.exists() else shutil.which("kubectl")
    if binary is None:
        pytest.skip("kubectl is not installed")

    async def run(*arguments):
        process = await asyncio.create_subprocess_exec(
            binary, f"--cache-dir={tmp_path}", *where[1], *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return out.decode()

    return run


@pytest.fixture
async def kube(where, kubectl):
    async with await Kube.connect(**where[0]) as kube:
        yield kube
        await kubectl("uncordon", NODE)
        await kubectl("annotate", "node", NODE, f"{ANNOTATION}-", "other-")


async def cordon(kube):
    """In one JSON patch, as every version of ours did."""
    node = await kube.get(kinds.NODE, NODE)
    empty = [] if node["metadata"].get("annotations") else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
    return await kube.patch(kinds.NODE, NODE, [*empty, NOTE, {"op": "add", "path": "/spec/unschedulable", "value": True}], type="json")


async def look(kube):
    node = await kube.get(kinds.NODE, NODE)
    return cordoned(node), owner(node) is not None, is_ours(node)


async def test_what_we_cordon_is_ours(kube, kubectl):
    await cordon(kube)
    assert await look(kube) == (True, True, True)
    assert "already cordoned" in await kubectl("cordon", NODE)
    await kubectl("annotate", "node", NODE, "other=1")
    await kubectl("label", "node", NODE, "other=1")
    await kubectl("label", "node", NODE, "other-")
    assert await look(kube) == (True, True, True), "what people do to the rest of the node does not make it theirs"


async def test_what_people_lifted_and_set_again_is_theirs_though_our_note_is_there(kube, kubectl):
    await cordon(kube)
    await kubectl("uncordon", NODE)
    assert await look(kube) == (False, True, False), "kubectl leaves the note"
    await kubectl("cordon", NODE)
    assert await look(kube) == (True, True, False)


async def test_what_we_cordon_once_more_is_ours_again(kube, kubectl):
    await cordon(kube)
    await kubectl("uncordon", NODE)
    await cordon(kube)
    assert await look(kube) == (True, True, True)


async def test_what_another_tool_wants_cordoned_too_is_not_ours_alone(kube, kubectl, tmp_path):
    await cordon(kube)
    wanted = tmp_path / "node.json"
    wanted.write_text(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": {"unschedulable": True}}))
    await kubectl("apply", "--server-side", "--field-manager=gitops", "--validate=false", "-f", str(wanted))
    assert await look(kube) == (True, True, False)
