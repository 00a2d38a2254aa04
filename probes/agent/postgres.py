"""Logging in in PostgreSQL's protocol."""

from __future__ import annotations

import os
import struct
from typing import Any

PG_VERSION, PG_TLS_REQUEST = 196608, 80877103  # protocol 3.0, and the request to speak TLS (PostgreSQL 55.7)
PG_OK, PG_PASSWORD, PG_MD5, PG_SASL, PG_SASL_CONTINUE, PG_SASL_FINAL = 0, 3, 5, 10, 11, 12
PG_LONGEST = 1 << 16  # nobody who greets a client says more in one message
PG_MESSAGES = 200  # nor more of them before it is ready
SCRAM = "SCRAM-SHA-256"


def log_in(sock: Any, startup: dict[str, str], password: str, answer: dict[str, Any]) -> None:
    """Log in in PostgreSQL's protocol, answering with the password whatever is asked; what comes of it is noted.

    `asked` names each way of authentication that was asked for; `authenticated` when that was passed; `ready` when the
    server takes statements; `code` (SQLSTATE) and `message` when it refused. Raises EOFError when it hangs up.
    """
    words = b"".join(word.encode("utf-8") + b"\0" for pair in startup.items() for word in pair)
    body = struct.pack("!i", PG_VERSION) + words + b"\0"
    sock.sendall(struct.pack("!i", len(body) + 4) + body)
    answer["asked"] = asked = []
    scram: list[str] = []  # our nonce and, once that is known, nothing else
    for _ in range(PG_MESSAGES):
        kind, body = read_message(sock)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
            answer["code"], answer["message"] = fields.get(b"C", ""), fields.get(b"M", "")
            return
        if kind == b"Z":
            answer["ready"] = True
            return
        if kind != b"R":
            continue  # settings, notices, and what is needed to cancel a statement
        request = struct.unpack("!i", body[:4])[0]
        if request == PG_OK:
            answer["authenticated"] = True
        elif request == PG_PASSWORD:
            asked.append("password")
            say(sock, password.encode("utf-8") + b"\0")
        elif request == PG_MD5:
            asked.append("md5")
            say(sock, md5_answer(startup["user"], password, body[4:8]))
        elif request == PG_SASL and SCRAM.encode() in body[4:].split(b"\0"):
            asked.append(SCRAM)
            scram.append(new_nonce())
            first = ("n,,n=,r=%s" % scram[0]).encode("ascii")
            say(sock, SCRAM.encode() + b"\0" + struct.pack("!i", len(first)) + first)
        elif request == PG_SASL_CONTINUE and scram:
            say(sock, scram_answer(scram[0], body[4:].decode("ascii"), password))
        elif request != PG_SASL_FINAL:
            asked.append("authentication %d" % request)
            return


def read_message(sock: Any) -> tuple[bytes, bytes]:
    """One message of PostgreSQL's protocol: its kind and its body. Raises EOFError when there is none."""
    head = read_whole(sock, 5)
    size = struct.unpack("!i", head[1:])[0] - 4
    if not 0 <= size <= PG_LONGEST:
        raise OSError("what it says is not PostgreSQL's protocol: %r" % head)
    return head[:1], read_whole(sock, size)


def read_whole(sock: Any, size: int) -> bytes:
    """So many bytes. Raises EOFError when the other side hangs up before."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def say(sock: Any, body: bytes) -> None:
    """Answer a request for authentication."""
    sock.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """The answer to PG_MD5."""
    import hashlib

    inner = hashlib.md5((password + user).encode("utf-8")).hexdigest()
    return b"md5" + hashlib.md5(inner.encode("ascii") + salt).hexdigest().encode("ascii") + b"\0"


def new_nonce() -> str:
    """Some characters that nobody can guess."""
    import base64

    return base64.b64encode(os.urandom(18)).decode("ascii")


def scram_answer(nonce: str, challenge: str, password: str) -> bytes:
    """The client's last message (RFC 5802 and 7677), without channel binding."""
    import base64
    import hashlib
    import hmac

    told = dict(part.split("=", 1) for part in challenge.split(","))
    if not told["r"].startswith(nonce):
        raise OSError("its SCRAM answer is for somebody else")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("utf-8"), base64.b64decode(told["s"]), int(told["i"]))
    key = hmac.new(salted, b"Client Key", "sha256").digest()
    bare = "c=biws,r=%s" % told["r"]
    signed = ("n=,r=%s,%s,%s" % (nonce, challenge, bare)).encode("ascii")
    signature = hmac.new(hashlib.sha256(key).digest(), signed, "sha256").digest()
    proof = bytes(one ^ other for one, other in zip(key, signature))  # noqa: B905 (3.8 has no strict)
    return ("%s,p=%s" % (bare, base64.b64encode(proof).decode("ascii"))).encode("ascii")
