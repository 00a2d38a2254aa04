"""One cluster's Kubernetes API, as the probes use it: raw JSON lists, a watch, and exec with a deadline.

The official client supplies what users expect of it, kubeconfig files with every way of authentication; requests go
through its connection pool as raw JSON, because its models refuse whole lists for one field that they do not like.
Exec does not use its `stream()`, which is neither bounded in time nor safe in more than one thread.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode, urlsplit

import urllib3
import websocket
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from analysis.fleet import ClusterHandle
from probes.errors import ApiError, DeadlineExceeded, ExecFailed, KubeconfigError, PodGone

R = TypeVar("R")

KubeObject: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[bytes], bytes]
"""What to say to a running command when it has said something; nothing for nothing."""

EXECS_AT_ONCE = 8
"""Per cluster. More gain nothing, and 32 brought a real node to its knees (2 per second)."""

REQUEST_TIMEOUT = timedelta(seconds=15)
ATTEMPTS = 3
OUTPUT_LIMIT = 16 << 20
STDIN_CHUNK = 1 << 15
SUBPROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
ENDED = re.compile(rb"\x1eENDED (\d+)\n\Z")
"""What a command that stays says last, of each thing that it was asked."""

TAIL = 32
"""Bytes at the end of the output in which that stands."""

IDLE_AT_MOST = timedelta(seconds=45)
"""Load balancers forget connections that carry nothing, the earliest after a minute."""

TRANSIENT = frozenset({0, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)})


@dataclass(frozen=True)
class Completed:
    """A command that ran in a pod to its end."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Cluster:
    """One region's cluster. Safe to use from many threads.

    Attributes:
        region: the region's name.
        retries: how often a request, or an exec of the agent, had to be made again.
    """

    def __init__(self, handle: ClusterHandle) -> None:
        self.region = handle.region
        self.retries = 0
        self._configuration = load_configuration(handle)
        self._api = kubernetes_client.ApiClient(self._configuration)
        self._auth = threading.Lock()
        self._execs = threading.BoundedSemaphore(EXECS_AT_ONCE)
        self._kept: defaultdict[tuple[str, str], list[tuple[Any, float]]] = defaultdict(list)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    @property
    def authorities(self) -> str:
        """The certificates, PEM, that the API server's own must lead to; "" where the system's are trusted."""
        file = self._configuration.ssl_ca_cert
        return Path(file).read_text() if file else ""

    def close(self) -> None:
        """Close all connections."""
        while self._kept:
            for stream, _ in self._kept.popitem()[1]:
                stream.shutdown()
        self._api.rest_client.pool_manager.clear()
        self._api.close()

    # --- requests -----------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> KubeObject:
        """The object at that path. Raises ApiError."""
        return self._request("GET", path, query)

    def items(self, path: str, **query: str) -> list[KubeObject]:
        """The items of that collection. Raises ApiError."""
        items: list[KubeObject] = self.get(path, **query).get("items") or []
        return items

    def has_namespace(self, name: str) -> bool:
        """Whether there is a namespace of that name. Raises ApiError when that is not told."""
        try:
            self.get(f"/api/v1/namespaces/{name}")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def text(self, path: str, **query: str) -> str:
        """What is at that path, when it is not JSON: a log. Raises ApiError."""
        try:
            response = self._send("GET", path, query, None, urllib3.Timeout(REQUEST_TIMEOUT.total_seconds()))
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(self.region, f"GET {path}", 0, _cause(error)) from error
        return response.data.decode("utf-8", "replace")

    def create(self, path: str, body: KubeObject) -> KubeObject:
        """Create an object. Raises ApiError."""
        return self._request("POST", path, {}, body)

    def update(self, path: str, body: KubeObject, **query: str) -> KubeObject:
        """Put an object in the place of the one at that path. Raises ApiError."""
        return self._request("PUT", path, query, body)

    def patch(self, path: str, changes: KubeObject) -> KubeObject:
        """Merge changes into the object at that path (RFC 7396). Raises ApiError."""
        return self._request("PATCH", path, {}, changes)

    def delete(self, path: str, *, grace_seconds: int = 0) -> None:
        """Delete an object; one that is not there is no error. Raises ApiError."""
        try:
            self._request(
                "DELETE", path, {}, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace_seconds}
            )
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def watch(self, path: str, *, within: timedelta, **query: str) -> Iterator[tuple[str, KubeObject]]:
        """Every object of that collection as ("ADDED", object), then its changes, until `within` is over.

        Raises ApiError when the watch cannot be opened or breaks.
        """
        end = time.monotonic() + within.total_seconds()
        listed = self.get(path, **query)
        for item in listed.get("items") or []:
            yield "ADDED", item
        version = listed["metadata"]["resourceVersion"]
        while (left := end - time.monotonic()) > 0:
            parameters = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(int(left) + 1)}
            for event in self._events(path, parameters, left):
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(self.region, f"watch {path}", status.get("code", 0), status.get("message", ""))
                version = event["object"]["metadata"]["resourceVersion"]
                yield event["type"], event["object"]

    def _events(self, path: str, query: Mapping[str, str], left: float) -> Iterator[KubeObject]:
        try:
            with self._send("GET", path, query, None, urllib3.Timeout(connect=10, read=left), stream=True) as response:
                rest = b""
                for data in response.stream(None):
                    *lines, rest = (rest + data).split(b"\n")
                    yield from (json.loads(line) for line in lines if line)
        except urllib3.exceptions.ReadTimeoutError:
            return
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(self.region, f"watch {path}", 0, str(error)) from error

    def _request(self, method: str, path: str, query: Mapping[str, str], body: KubeObject | None = None) -> KubeObject:
        def again(state: Any) -> None:
            self.retries += 1

        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.status in TRANSIENT),
            before_sleep=again,
            reraise=True,
        )
        return attempts(self._request_once, method, path, query, body)

    def _request_once(self, method: str, path: str, query: Mapping[str, str], body: KubeObject | None) -> KubeObject:
        timeout = urllib3.Timeout(REQUEST_TIMEOUT.total_seconds())
        try:
            response = self._send(method, path, query, body, timeout)
            answer: KubeObject = json.loads(response.data)
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(self.region, f"{method} {path}", 0, _cause(error)) from error
        except ValueError as error:
            raise ApiError(self.region, f"{method} {path}", 0, "its answer is not JSON") from error
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: KubeObject | None,
        timeout: urllib3.Timeout,
        *,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        url = self._configuration.host + path + ("?" + urlencode(query) if query else "")
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {**self._authorization(), "Accept": "application/json", "Content-Type": kind}
        response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
            method,
            url,
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=timeout,
            retries=False,
            preload_content=not stream,
        )
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(self.region, f"{method} {path}", response.status, _status_message(response.data))
        return response

    def _authorization(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        with self._auth:  # it may run a login helper or refresh a token
            self._api.update_params_for_auth(headers, [], ["BearerToken"])
        return headers

    # --- exec ---------------------------------------------------------------------------------------------------

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        *,
        within: timedelta,
        stdin: bytes = b"",
        container: str | None = None,
        answer: Answer | None = None,
    ) -> Completed:
        """Run a command in a pod, without a shell, and wait for its end.

        Standard input is not closed behind what is sent: servers before 1.30 cannot.

        Args:
            namespace: the pod's.
            pod: its name.
            command: what to run.
            within: how long it may take.
            stdin: what it reads first.
            container: where it is not the only one.
            answer: told each piece of its standard output as it comes; what this gives back is said to it at once.

        Raises:
            PodGone: the pod is not there, or not running any more.
            DeadlineExceeded: it did not end `within` that time, connecting included.
            ExecFailed: the stream could not be opened, or broke.
        """

        def work(path: str, end: float) -> Completed:
            stream = self._open_exec(path, command, bool(stdin), container, end)
            try:
                _say(stream, stdin, end)
                return _hear(stream, end, answer)[0]
            finally:
                stream.shutdown()

        return self._guarded(namespace, pod, within, work)

    def converse(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        *,
        opening: bytes,
        stdin: bytes,
        within: timedelta,
        answer: Answer | None = None,
    ) -> Completed:
        """Ask a command that stays in a pod, and wait until it says `ENDED` and the exit code of what was asked.

        It is started when none is idle there, and kept for the next one who asks unless something went wrong.

        Args:
            namespace: the pod's.
            pod: its name.
            command: what stays.
            opening: what it is told first, once.
            stdin: what it is asked.
            within: how long that may take.
            answer: as for `exec`.

        Raises:
            PodGone: the pod is not there, or not running any more.
            DeadlineExceeded: it did not end `within` that time, connecting included.
            ExecFailed: the stream could not be opened, or broke.
        """

        def work(path: str, end: float) -> Completed:
            kept = self._idle(namespace, pod)
            stream = kept or self._open_exec(path, command, True, None, end)
            stays = False
            try:
                _say(stream, stdin if kept else opening + stdin, end)
                completed, stays = _hear(stream, end, answer, ENDED)
            finally:
                if not stays:
                    stream.shutdown()
            if stays:
                self._kept[namespace, pod].append((stream, time.monotonic()))
            elif kept:
                raise ExecFailed("what was running there has ended")
            return completed

        return self._guarded(namespace, pod, within, work)

    def start(self, namespace: str, pod: str, command: list[str], *, within: timedelta) -> Any:
        """Start a command in a pod and give the stream to it: a WebSocket of the channels named above.

        Whoever gets it carries what is said both ways, and closes it.

        Raises:
            PodGone: the pod is not there, or not running any more.
            DeadlineExceeded: the stream did not open `within` that time.
            ExecFailed: it could not be opened.
        """
        return self._guarded(namespace, pod, within, lambda path, end: self._open_exec(path, command, True, None, end))

    def _idle(self, namespace: str, pod: str) -> Any:
        """A stream to what stays in that pod; None when there is none, or none that can be relied on."""
        streams = self._kept[namespace, pod]
        while streams:
            with suppress(IndexError):  # another thread was faster
                stream, since = streams.pop()
                if time.monotonic() - since < IDLE_AT_MOST.total_seconds():
                    return stream
                stream.shutdown()
        return None

    def _guarded(self, namespace: str, pod: str, within: timedelta, work: Callable[[str, float], R]) -> R:
        """Do something with an exec in a pod, so that whatever goes wrong is told in our own words."""
        end = time.monotonic() + within.total_seconds()
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        if not self._execs.acquire(timeout=within.total_seconds()):
            raise DeadlineExceeded(f"{self.region}/{pod}: no exec could start within {within.total_seconds():g} s")
        try:
            return work(f"{path}/exec", end)
        except (websocket.WebSocketTimeoutException, TimeoutError) as error:
            raise DeadlineExceeded(f"{self.region}/{pod}: no end within {within.total_seconds():g} s") from error
        except websocket.WebSocketBadStatusException as error:
            self._raise_if_gone(path, pod)
            reason = _status_message(error.resp_body or b"")
            raise ExecFailed(f"{self.region}/{pod}: exec refused with {error.status_code}: {reason}") from error
        except (websocket.WebSocketException, OSError, ExecFailed) as error:
            self._raise_if_gone(path, pod)
            raise ExecFailed(f"{self.region}/{pod}: {error}") from error
        finally:
            self._execs.release()

    def _open_exec(self, path: str, command: list[str], stdin: bool, container: str | None, end: float) -> Any:
        query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
        if stdin:
            query.append(("stdin", "true"))
        if container:
            query.append(("container", container))
        return self._open_stream(path, query, end)

    def _open_stream(self, path: str, query: list[tuple[str, str]], end: float) -> Any:
        settings = self._configuration
        scheme = "wss" if settings.host.startswith("https") else "ws"
        url = f"{scheme}{settings.host[settings.host.index(':') :]}{path}?{urlencode(query)}"
        options: dict[str, Any] = {}
        if settings.proxy:
            proxy = urlsplit(settings.proxy)
            options = {"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port, "proxy_type": "http"}
        tls = {"context": self._tls}
        if settings.tls_server_name:
            tls["server_hostname"] = settings.tls_server_name
        stream: Any = websocket.WebSocket(sslopt=tls, skip_utf8_validation=True)
        stream.connect(
            url,
            timeout=_left(end),
            header=[f"{name}: {value}" for name, value in self._authorization().items()],
            subprotocols=list(SUBPROTOCOLS),
            suppress_origin=True,
            **options,
        )
        return stream

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        settings = self._configuration
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        return context

    def _raise_if_gone(self, path: str, pod: str) -> None:
        """Tell a broken stream from a pod that went away while we talked to it."""
        try:
            found = self.get(path)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise PodGone(f"{self.region}/{pod} is not there any more") from error
            return
        phase = found.get("status", {}).get("phase", "")
        if found["metadata"].get("deletionTimestamp") or phase in ("Succeeded", "Failed"):
            raise PodGone(f"{self.region}/{pod} is {'being deleted' if phase == 'Running' else phase.lower()}")


def _say(stream: Any, data: bytes, end: float) -> None:
    """Give a command in a pod something to read."""
    for start in range(0, len(data), STDIN_CHUNK):
        stream.settimeout(_left(end))
        stream.send_binary(bytes([STDIN]) + data[start : start + STDIN_CHUNK])


def _hear(
    stream: Any, end: float, answer: Answer | None, until: re.Pattern[bytes] | None = None
) -> tuple[Completed, bool]:
    """What a command in a pod says to its end, or until its standard output ends as it should; whether it stays."""
    channels: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
    while True:
        stream.settimeout(_left(end))
        opcode, frame = stream.recv_data_frame(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            # Anything but output and status is v5's "this channel is closed", which tells us nothing new.
            channels.get(frame.data[0], bytearray()).extend(frame.data[1:])
            if sum(map(len, channels.values())) > OUTPUT_LIMIT:
                raise ExecFailed(f"more than {OUTPUT_LIMIT >> 20} MiB of output")
            if until and (ended := until.search(channels[STDOUT], max(0, len(channels[STDOUT]) - TAIL))):
                return Completed(int(ended[1]), bytes(channels[STDOUT][: ended.start()]), bytes(channels[STDERR])), True
            if answer is not None and frame.data[0] == STDOUT and (said := answer(frame.data[1:])):
                stream.send_binary(bytes([STDIN]) + said)
    return Completed(exit_code(bytes(channels[STATUS])), bytes(channels[STDOUT]), bytes(channels[STDERR])), False


def exit_code(status: bytes) -> int:
    """The exit code that the status channel tells. Raises ExecFailed when it tells none."""
    if not status:
        raise ExecFailed("the stream ended without a status")
    try:
        told = json.loads(status)
    except ValueError:
        raise ExecFailed(f"the stream ended with a broken status: {status[:200]!r}") from None
    if told.get("status") == "Success":
        return 0
    if told.get("reason") == "NonZeroExitCode":
        causes = {cause.get("reason"): cause.get("message") for cause in told.get("details", {}).get("causes", ())}
        return int(causes["ExitCode"])
    raise ExecFailed(str(told.get("message") or told))


def load_configuration(handle: ClusterHandle) -> Any:
    """The client configuration of a cluster.

    Raises:
        KubeconfigError: the file cannot be read, is no kubeconfig, lacks the context, or does not verify certificates.
    """
    path = Path(handle.kubeconfig).expanduser()
    where = f"region {handle.region}: kubeconfig {path}"
    settings = kubernetes_client.Configuration()
    try:
        path.read_bytes()
        kubernetes_config.load_kube_config(str(path), context=handle.context, client_configuration=settings)
    except FileNotFoundError as error:
        raise KubeconfigError(f"{where}: it does not exist") from error
    except OSError as error:
        raise KubeconfigError(f"{where}: cannot be read: {error.strerror}") from error
    except kubernetes_config.ConfigException as error:
        raise KubeconfigError(f"{where}: context {handle.context!r} cannot be used: {error}") from error
    except Exception as error:  # a YAML error of the client's own parser, or a login helper's failure
        raise KubeconfigError(f"{where}: cannot be understood: {error}") from error
    if not settings.verify_ssl:
        told = "has insecure-skip-tls-verify, and certificates are always verified"
        raise KubeconfigError(f"{where}: context {handle.context!r} {told}")
    settings.host = settings.host.rstrip("/")
    return settings


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _status_message(body: bytes) -> str:
    """What a Kubernetes Status object says, or the body itself."""
    try:
        return str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError):
        return body[:300].decode("utf-8", "replace").strip()


def _cause(error: BaseException) -> str:
    """The innermost reason of a connection error, without the library's wrapping."""
    reason = getattr(error, "reason", None)
    return _cause(reason) if isinstance(reason, BaseException) else str(error)
