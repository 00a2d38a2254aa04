"""The API client and the reflector, against a server that answers what each test wants."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import pytest
from aiohttp import web

from provision.lab.kube import pki
from provision.lab.kube.client import (
    LEASES,
    NODES,
    PODS,
    AlreadyExists,
    ApiClient,
    ApiError,
    ChangeKind,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Patch,
    Reflector,
    Unreachable,
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    return pki.create_cluster_pki(folder, "east", {"n": IPv4Address("10.0.0.1")})


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return pki.create_cluster_pki(tmp_path_factory.mktemp("other"), "west", {"n": IPv4Address("10.0.0.1")})


@asynccontextmanager
async def serving(keys, handler, *, ca=None):
    """A client of a server whose every request is answered by `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(keys.api_server.certificate, keys.api_server.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        async with ApiClient(f"https://127.0.0.1:{port}", ca=ca or keys.ca, token="secret") as client:
            yield client
    finally:
        await runner.cleanup()


def pod(name, version, **labels):
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version, "labels": labels}}


def event(kind, obj):
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def test_paths_are_those_of_the_api():
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("ns", "p", "status") == "/api/v1/namespaces/ns/pods/p/status"
    assert NODES.path(None, "n") == "/api/v1/nodes/n"
    assert LEASES.path("ns") == "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
    with pytest.raises(ValueError, match="needs a namespace"):
        PODS.path(None, "p")


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (403, "Forbidden", Forbidden),
        (422, "Invalid", Invalid),
        (500, "InternalError", ApiError),
    ],
)
def test_refusals_are_typed_and_say_what_was_asked(keys, code, reason, error):
    async def refuse(request):
        return web.json_response({"code": code, "reason": reason, "message": "because"}, status=code)

    async def ask():
        async with serving(keys, refuse) as client:
            await client.get(PODS, "p", "ns")

    with pytest.raises(error, match=r"GET /api/v1/namespaces/ns/pods/p: .* because") as caught:
        asyncio.run(ask())
    assert type(caught.value) is error


def test_requests_carry_token_format_and_body(keys):
    seen = {}

    async def answer(request):
        seen.update(method=request.method, path=request.path, type=request.content_type, **request.headers)
        seen["body"] = await request.json()
        return web.json_response({})

    async def ask():
        async with serving(keys, answer) as client:
            await client.patch(PODS, "p", [{"op": "remove", "path": "/x"}], "ns", kind=Patch.JSON)
            patched = dict(seen)
            await client.delete(PODS, "p", "ns", grace_seconds=0, uid="u")
            return patched

    patched = asyncio.run(ask())
    assert patched["Authorization"] == "Bearer secret"
    assert (patched["method"], patched["type"]) == ("PATCH", "application/json-patch+json")
    assert seen["body"]["gracePeriodSeconds"] == 0
    assert seen["body"]["preconditions"] == {"uid": "u"}


def test_a_server_with_another_authority_is_not_talked_to(keys, stranger):
    async def answer(request):
        pytest.fail("the request must not arrive")

    async def ask():
        async with serving(keys, answer, ca=stranger.ca) as client:
            await client.get(NODES, "n")

    with pytest.raises(Unreachable, match="certificate"):
        asyncio.run(ask())


def test_nobody_there_is_unreachable(keys):
    async def ask():
        async with ApiClient("https://127.0.0.1:1", ca=keys.ca, token="t") as client:
            await client.get(NODES, "n")

    with pytest.raises(Unreachable):
        asyncio.run(ask())


class Script:
    """A server that lists and watches what a test lays down: each list, each watch is taken from the front."""

    def __init__(self, lists, watches):
        self.lists, self.watches = list(lists), list(watches)
        self.asked = []

    async def answer(self, request):
        if "watch" not in request.query:
            version, items = self.lists.pop(0)
            return web.json_response({"metadata": {"resourceVersion": version}, "items": items})
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.sleep(60)
        for chunk in self.watches.pop(0):
            await response.write(chunk)
        return response


def follow(keys, script, *, until):
    """The changes that a handler is told, up to the one that `until` accepts, and the reflector."""

    async def play():
        changes, enough = [], asyncio.Event()

        def handle(change):
            changes.append((change.kind, change.object["metadata"]["name"]))
            if until(change):
                enough.set()

        async with serving(keys, script.answer) as client:
            reflector = Reflector(client, PODS)
            reflector.add_handler(handle)
            running = asyncio.create_task(reflector.run())
            await asyncio.wait_for(enough.wait(), 10)
            running.cancel()
            await asyncio.wait({running})
            return changes, reflector

    return asyncio.run(play())


def test_a_reflector_lists_then_follows(keys):
    stream = event("MODIFIED", pod("a", "3", new="label")) + event("DELETED", pod("b", "4"))
    # Cut anywhere: what arrives together has nothing to do with where an event ends.
    script = Script([("2", [pod("a", "1"), pod("b", "2")])], [[stream[:7], stream[7:50], stream[50:]]])
    changes, reflector = follow(keys, script, until=lambda change: change.kind is ChangeKind.DELETED)
    assert changes == [
        (ChangeKind.ADDED, "a"),
        (ChangeKind.ADDED, "b"),
        (ChangeKind.MODIFIED, "a"),
        (ChangeKind.DELETED, "b"),
    ]
    assert reflector.get("a", "ns")["metadata"]["labels"] == {"new": "label"}
    assert reflector.get("b", "ns") is None
    assert reflector.synced.is_set()
    assert [obj["metadata"]["name"] for obj in reflector] == ["a"]


def test_a_version_that_is_too_old_means_listing_again_and_telling_the_difference(keys):
    gone = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    script = Script(
        [("2", [pod("a", "1"), pod("b", "2")]), ("9", [pod("a", "1"), pod("c", "8")])],
        [[event("BOOKMARK", pod("", "5")), gone]],
    )
    changes, _ = follow(keys, script, until=lambda change: change.object["metadata"]["name"] == "c")
    assert changes[2:] == [(ChangeKind.DELETED, "b"), (ChangeKind.ADDED, "c")]


def test_a_watch_that_ends_is_taken_up_where_it_ended(keys):
    script = Script(
        [("2", [])],
        [[event("ADDED", pod("a", "3"))], [event("BOOKMARK", pod("", "7"))], [event("ADDED", pod("b", "8"))]],
    )
    follow(keys, script, until=lambda change: change.object["metadata"]["name"] == "b")
    assert script.asked[:3] == ["2", "3", "7"]


def test_an_object_of_a_megabyte_is_one_line(keys):
    large = pod("a", "3", big="x" * (1 << 20))
    script = Script([("2", [])], [[event("ADDED", large)]])
    _, reflector = follow(keys, script, until=lambda change: True)
    assert len(reflector.get("a", "ns")["metadata"]["labels"]["big"]) == 1 << 20


def test_one_handlers_bug_is_not_the_others(keys, caplog):
    async def play():
        seen = []
        script = Script([("2", [pod("a", "1")])], [])
        async with serving(keys, script.answer) as client:
            reflector = Reflector(client, PODS)
            reflector.add_handler(lambda change: 1 / 0)
            reflector.add_handler(seen.append)
            running = asyncio.create_task(reflector.run())
            await asyncio.wait_for(reflector.synced.wait(), 10)
            late = []
            reflector.add_handler(late.append)
            running.cancel()
            return seen, late

    seen, late = asyncio.run(play())
    assert len(seen) == len(late) == 1
    assert "handler of pods failed" in caplog.text
