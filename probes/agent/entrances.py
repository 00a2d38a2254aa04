"""Getting in: how far one comes at a server that asks for TLS, a certificate or a password."""

from __future__ import annotations

import errno
import struct
import time
from typing import Any

from probes.agent.postgres import PG_TLS_REQUEST, log_in
from probes.agent.tls import listen_for, reach, secure


def enter(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Try every entrance: those of one address one after the other, so that no server has too many clients at once."""
    import threading  # these take a while to import, and few plans need them

    answers: list[dict[str, Any]] = [{} for _ in operation["targets"]]
    by_address: dict[str, list[int]] = {}
    for number, target in enumerate(operation["targets"]):
        by_address.setdefault(target["address"], []).append(number)

    def work(numbers: list[int]) -> None:
        for number in numbers:
            answers[number] = try_entrance(operation["targets"][number], operation["timeout"], end)

    threads = [threading.Thread(target=work, args=(numbers,)) for numbers in by_address.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"targets": answers}


def try_entrance(target: dict[str, Any], timeout: float, end: float) -> dict[str, Any]:
    """Connect, ask for TLS, agree on it, and log in or say something; as far as the other side goes along.

    Gives back the TCP `outcome`, and when it is open: `declined`, what was said to the request for TLS where that was
    not yes; `secured` and `protocol` after a handshake; `chain`, the other side's certificates (base64 DER), also of a
    handshake that failed after them; `distrust`, why they were not believed; `alert` when we were refused in words of
    TLS; what `log_in` tells; `heard` (base64); `closed` when the other side hung up, and `detail` of any other failure.
    """
    import base64
    import ssl

    chain: list[bytes] = []
    timeout = max(0.001, min(timeout, end - time.monotonic()))
    sock, answer = reach(target, timeout)
    if sock is None:
        return answer
    try:
        if target.get("upgrade"):
            sock.sendall(struct.pack("!ii", 8, PG_TLS_REQUEST))
            said = sock.recv(1)
            if said != b"S":
                answer["declined"] = said.decode("ascii", "replace")
                return answer
        if not target.get("plain"):
            sock = secure(sock, target, chain)
            answer["secured"], answer["protocol"] = True, sock.version()
        if target.get("startup"):
            log_in(sock, target["startup"], target.get("password") or "", answer)
        elif target.get("request"):
            sock.sendall(base64.b64decode(target["request"]))
            heard = listen_for(sock, timeout)
            answer["closed"] = heard == b""
            answer["heard"] = base64.b64encode(heard or b"").decode("ascii")
    except ssl.SSLCertVerificationError as error:
        answer["distrust"] = error.verify_message
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        answer["closed"], answer["detail"] = True, "hung up without a word of TLS"
    except ssl.SSLError as error:
        said_of_it = "%s: %s" % (error.reason, error) if error.reason else str(error)
        answer["alert" if "ALERT" in said_of_it else "detail"] = said_of_it
    except EOFError:
        answer["closed"] = True
    except OSError as error:
        answer["closed"] = error.errno in (errno.ECONNRESET, errno.EPIPE)
        answer["detail"] = str(error)
    finally:
        sock.close()
        answer["chain"] = [base64.b64encode(certificate).decode("ascii") for certificate in chain]
    return answer
