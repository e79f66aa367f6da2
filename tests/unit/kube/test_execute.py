"""A command in a container, on a scripted server: channels, exit codes, and everything that may go wrong on the way."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from aiohttp import web

from remediator.errors import UsageError
from remediator.kube.errors import Forbidden, Malformed, NotFound, Timeout, Unauthorized, Unavailable, Unreachable

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
SUCCESS = json.dumps({"metadata": {}, "status": "Success"}).encode()
SOON = timedelta(seconds=5)


def ended(code):
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}).encode()


def speak(api, *messages, protocols=(V5, V4), stay=False):
    """Queue a websocket that says ``messages`` (channel, bytes) and closes, or stays open until the test is over."""

    async def answer(request):
        socket = web.WebSocketResponse(protocols=protocols)
        await socket.prepare(request)
        for channel, data in messages:
            await socket.send_bytes(bytes([channel]) + data)
        if stay:
            await socket.receive()
        await socket.close()
        return socket

    api.queue.append(answer)


async def execute(kube, *argv, within=SOON, **more):
    return await kube.exec("agent", "kube-system", "cilium-agent", argv or ("a",), timeout=within, **more)


async def test_the_command_goes_out_word_by_word_and_no_shell_sees_it(api, kube):
    asked = []

    async def answer(request):
        asked.append((request.query.getall("command"), request.query["container"], request.headers["Sec-WebSocket-Protocol"]))
        socket = web.WebSocketResponse(protocols=(V4,))
        await socket.prepare(request)
        await socket.send_bytes(b"\x03" + SUCCESS)
        return socket

    api.queue.append(answer)
    await execute(kube, "sh", "a b", "$(x); &", "")
    assert asked == [(["sh", "a b", "$(x); &", ""], "cilium-agent", f"{V5},{V4}")]
    assert api.seen[0].path == "/api/v1/namespaces/kube-system/pods/agent/exec"
    assert "stdin" not in api.seen[0].query
    assert "tty" not in api.seen[0].query


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_output_by_channel_and_code_0(api, kube, protocol):
    speak(api, (1, b""), (2, b""), (1, b"OK"), (2, b"but"), (1, b"\n"), (3, SUCCESS), protocols=(protocol,))
    done = await execute(kube)
    assert (done.code, done.stdout, done.stderr, done.cut) == (0, b"OK\n", b"but", False)


async def test_a_code_other_than_0_is_an_answer(api, kube):
    speak(api, (2, b"cilium: daemon unreachable\n"), (3, ended(1)))
    done = await execute(kube)
    assert (done.code, done.stderr) == (1, b"cilium: daemon unreachable\n")


async def test_a_character_split_over_two_messages_stays_whole(api, kube):
    first, second = "\N{EURO SIGN}".encode()[:1], "\N{EURO SIGN}".encode()[1:]
    speak(api, (1, first), (1, second), (3, SUCCESS))
    assert (await execute(kube)).stdout.decode() == "\N{EURO SIGN}"


async def test_output_is_cut_at_the_limit_and_the_code_is_still_known(api, kube):
    speak(api, (1, b"123"), (2, b"456789"), (1, b"x" * 100_000), (3, ended(7)))
    done = await execute(kube, limit=5)
    assert (done.code, done.stdout, done.stderr, done.cut) == (7, b"123", b"45", True)


async def test_no_more_than_the_limit_is_not_cut(api, kube):
    speak(api, (1, b"12345"), (1, b""), (3, SUCCESS))
    assert not (await execute(kube, limit=5)).cut


async def test_without_the_right_it_is_forbidden_in_the_servers_words(api, kube):
    api.status(403, "Forbidden", 'User "u" cannot create resource "pods/exec"')
    with pytest.raises(Forbidden, match='cannot create resource "pods/exec"') as caught:
        await execute(kube)
    assert not caught.value.retryable
    assert not caught.value.maybe_applied


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (500, Unavailable), (302, Malformed), (200, Malformed)])
async def test_an_ordinary_answer_is_an_error_of_ours(api, kube, status, kind):
    api.json({"kind": "Status"}, status, Location="http://elsewhere.test/")
    with pytest.raises(kind):
        await execute(kube)


async def test_a_refused_token_is_read_again(api, connect, tmp_path):
    (tmp_path / "token").write_text("t1")
    file = tmp_path / "kubeconfig"
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"tokenFile": "token"}}
    cluster = {"name": "c", "cluster": {"server": api.url}}
    file.write_text(json.dumps({"current-context": "x", "clusters": [cluster], "users": [user], "contexts": [context]}))
    kube = await connect(kubeconfig=file)
    (tmp_path / "token").write_text("t2")
    api.status(401, "Unauthorized")
    speak(api, (3, SUCCESS))
    assert (await execute(kube)).code == 0
    assert [seen.headers["Authorization"] for seen in api.seen] == ["Bearer t1", "Bearer t2"]
    api.status(401, "Unauthorized")
    api.status(401, "Unauthorized")
    with pytest.raises(Unauthorized):
        await execute(kube)


async def test_a_command_that_does_not_end_ends_at_the_deadline(api, kube):
    speak(api, (1, b"..."), stay=True)
    with pytest.raises(Timeout) as caught:
        await execute(kube, within=timedelta(milliseconds=200))
    assert caught.value.maybe_applied, "nobody knows what the command did"


async def test_a_server_that_does_not_answer_ends_at_the_deadline(api, kube):
    api.hang()
    with pytest.raises(Timeout):
        await execute(kube, within=timedelta(milliseconds=200))


async def test_output_without_end_ends_at_the_deadline(api, kube):
    async def answer(request):
        socket = web.WebSocketResponse(protocols=(V4,))
        await socket.prepare(request)
        while not socket.closed:
            await socket.send_bytes(b"\x01" + b"y\n" * 1000)
        return socket

    api.queue.append(answer)
    with pytest.raises(Timeout):
        await execute(kube, within=timedelta(milliseconds=200))


async def test_a_stream_that_breaks_off_tells_no_code(api, kube):
    speak(api, (1, b"half"))
    with pytest.raises(Unreachable, match="before the exit code"):
        await execute(kube)
    api.cut()
    with pytest.raises(Unreachable):
        await execute(kube)


async def test_what_did_not_start_is_the_error_that_the_status_says(api, kube):
    message = "error sending request: dial tcp 10.0.0.1:10250: connect: connection refused"
    status = {"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message}
    speak(api, (3, json.dumps(status).encode()))
    with pytest.raises(Unavailable, match=f"500 InternalError: {message}") as caught:
        await execute(kube)
    assert caught.value.retryable


@pytest.mark.parametrize("status", [b"nonsense", b'{"status": "Failure", "reason": "NonZeroExitCode"}', ended("one"), b"\xff"])
async def test_a_status_that_tells_no_code_is_malformed(api, kube, status):
    speak(api, (3, status))
    with pytest.raises(Malformed):
        await execute(kube)


async def test_a_websocket_of_another_protocol_is_malformed(api, kube):
    speak(api, (3, SUCCESS), protocols=())
    with pytest.raises(Malformed, match="websocket of none of"):
        await execute(kube)


async def test_calls_that_make_no_sense_send_nothing(api, kube):
    with pytest.raises(UsageError):
        await kube.exec("agent", "kube-system", "c", (), timeout=SOON)
    with pytest.raises(NotFound):
        await kube.exec("a/../b", "kube-system", "c", ("a",), timeout=SOON)
    assert api.seen == []


async def test_the_door_is_as_good_as_new_after_each(api, kube):
    from remediator.kube import kinds

    speak(api, (3, SUCCESS))
    await execute(kube)
    api.json({"kind": "Node"})
    assert (await kube.get(kinds.NODE, "a"))["kind"] == "Node"


@pytest.mark.parametrize("allowed", [True, False])
async def test_whether_we_may_is_a_question_and_asked_again_where_that_helps(api, kube, allowed):
    api.status(503)
    api.json({"status": {"allowed": allowed, "reason": "because"}}, 201)
    assert await kube.may("create", "pods", "kube-system", subresource="exec") is allowed
    wanted = {"verb": "create", "group": "", "resource": "pods", "subresource": "exec", "namespace": "kube-system", "name": ""}
    assert [seen.body["spec"]["resourceAttributes"] for seen in api.seen] == [wanted, wanted]
    api.json({"kind": "Status"}, 201)
    with pytest.raises(Malformed):
        await kube.may("get", "pods", "kube-system")


async def test_the_rules_of_a_namespace_are_told_where_the_list_is_whole(api, kube):
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}
    api.json({"status": {"resourceRules": [rule], "nonResourceRules": [], "incomplete": False}}, 201)
    (found,) = await kube.rules("shop")
    assert (found.verbs, found.api_groups, found.resources, found.resource_names) == (("get",), ("",), ("pods",), ("a",))
    assert [(seen.body["kind"], seen.body["spec"]) for seen in api.seen] == [("SelfSubjectRulesReview", {"namespace": "shop"})]
    api.json({"status": {"resourceRules": None, "nonResourceRules": None, "incomplete": False}}, 201)
    assert await kube.rules("shop") == ()
    why = "webhook authorizer does not support user rule resolution"
    api.json({"status": {"resourceRules": [rule], "nonResourceRules": [], "incomplete": True, "evaluationError": why}}, 201)
    assert await kube.rules("shop") is None, "another authorizer may forbid what RBAC allows"
    api.status(403, "Forbidden")
    assert await kube.rules("shop") is None
    api.json({"kind": "Status"}, 201)
    with pytest.raises(Malformed):
        await kube.rules("shop")
