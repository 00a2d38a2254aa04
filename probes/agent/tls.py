"""TLS handshakes, with all that is known of those that fail."""

from __future__ import annotations

import _socket as socket
import errno
import os
import time
from typing import Any

from probes.agent.outcomes import DROPPED, OPEN, outcome_of_errno
from probes.agent.sockets import Socket, connect

TLS_CERTIFICATE = 11  # type of the handshake message (RFC 5246, 7.4.2; RFC 8446, 4.4.2)


def tls(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """A handshake with every target, all at once."""
    import threading  # these take a while to import, and no other plan needs them

    answers: list[dict[str, Any]] = [{} for _ in operation["targets"]]

    def work(number: int, target: dict[str, Any]) -> None:
        answers[number] = handshake(target, operation["timeout"], operation["patience"], end)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(operation["targets"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"targets": answers}


def reach(target: dict[str, Any], timeout: float) -> tuple[Socket | None, dict[str, Any]]:
    """A connection to a target, None where none comes about; and what came of it."""
    try:
        return connect(target["address"], target["port"], timeout), {"outcome": OPEN}
    except socket.timeout:
        return None, {"outcome": DROPPED, "detail": "no answer within %g s" % timeout}
    except OSError as error:
        outcome, detail = outcome_of_errno(error.errno or 0)
        return None, {"outcome": outcome, "detail": detail}


def handshake(target: dict[str, Any], timeout: float, patience: float, end: float) -> dict[str, Any]:
    """Connect, agree on TLS, listen, speak, listen.

    Gives back the TCP `outcome` and, when it is open: `secured` when the handshake succeeded, `protocol`, `certificate`
    (base64 DER, also of a handshake that failed after it), `alert` when the other side refused in words of TLS, `heard`
    (base64), `closed` when it hung up, and `detail` when it failed in another way.
    """
    import base64
    import ssl

    certificates: list[bytes] = []
    timeout = max(0.001, min(timeout, end - time.monotonic()))
    sock, answer = reach(target, timeout)
    if sock is None:
        return answer
    try:
        if not target.get("plain"):
            sock = secure(sock, target, certificates)
            answer["secured"] = True
            answer["protocol"] = sock.version()
        heard = listen_for(sock, patience)
        if heard is None and target.get("request"):
            sock.sendall(base64.b64decode(target["request"]))
            heard = listen_for(sock, timeout)
        answer["closed"] = heard == b""
        answer["heard"] = base64.b64encode(heard or b"").decode("ascii")
    except ssl.SSLError as error:
        said = "%s: %s" % (error.reason, error) if error.reason else str(error)
        answer["alert" if "ALERT" in said else "detail"] = said
    except OSError as error:
        answer["closed"] = error.errno in (errno.ECONNRESET, errno.EPIPE)
        answer["detail"] = str(error)
    finally:
        sock.close()
    answer["certificate"] = base64.b64encode(b"".join(certificates[:1])).decode("ascii")
    return answer


def secure(sock: Any, target: dict[str, Any], certificates: list[bytes]) -> Any:
    """Put TLS around the connection; the other side's certificates are added to the list.

    They are verified where the target names an authority, and else taken as they come.
    """
    import ssl

    def overhear(_sock: Any, direction: str, version: int, _content: int, kind: int, message: bytes) -> None:
        # `getpeercert` has nothing to say of a handshake that failed, and in TLS 1.2 it fails where we are refused.
        if direction == "read" and kind == TLS_CERTIFICATE:
            latest = version == ssl.TLSVersion.TLSv1_3
            place = 4 + 3 + (1 + message[4] if latest else 0)
            while place < len(message):
                size = int.from_bytes(message[place : place + 3], "big")
                certificates.append(message[place + 3 : place + 3 + size])
                place += 3 + size
                if latest:  # each with extensions behind it
                    place += 2 + int.from_bytes(message[place : place + 2], "big")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if target.get("authority"):
        context.load_verify_locations(cadata=target["authority"])
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(target["protocols"])
    context._msg_callback = overhear  # type: ignore[attr-defined]
    if target.get("certificate"):
        # The library takes certificates from files only; this one is in memory and has no name.
        memory = os.memfd_create("certificate")
        try:
            os.write(memory, (target["certificate"] + target["key"]).encode("ascii"))
            context.load_cert_chain("/proc/self/fd/%d" % memory)
        finally:
            os.close(memory)
    return context.wrap_socket(sock, server_hostname=target["name"])


def listen_for(sock: Any, seconds: float) -> bytes | None:
    """What the other side says within that time: None for nothing, b"" when it hangs up."""
    sock.settimeout(seconds)
    try:
        data: bytes = sock.recv(512)
    except socket.timeout:
        return None
    return data
