"""What the agent says about names, against servers on loopback that encode their answers with dnspython."""

import asyncio
import socket
import struct
import threading
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

SERVICE = "cockroachdb.westus.svc.cluster.local"


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer):
        self.answer = answer

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        if reply := self.answer(dns.message.from_wire(data)):
            self.transport.sendto(reply.to_wire(), peer)


@contextmanager
def serving(answer):
    """Answers over UDP and TCP at one port of loopback, as `answer` says."""
    ready, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    ports = []

    async def on_connection(reader, writer):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        if reply := answer(dns.message.from_wire(await reader.readexactly(length))):
            wire = reply.to_wire()
            writer.write(struct.pack("!H", len(wire)) + wire)
            await writer.drain()
        writer.close()

    async def serve():
        async with await asyncio.start_server(on_connection, "127.0.0.1", 0) as tcp:
            address = tcp.sockets[0].getsockname()
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(answer), local_addr=address)
            ports.append(address[1])
            ready.set()
            await stop.wait()
            transport.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def ask(pod, *questions, **options):
    run = pod.run({"op": "dns", "questions": list(questions), "timeout": 1.0, **options})
    return run.operations[0]["answers"]


def members(query):
    reply = dns.message.make_response(query)
    name = query.question[0].name
    if query.question[0].rdtype == dns.rdatatype.SRV:
        hosts = [f"cockroachdb-{number}.{SERVICE}." for number in range(3)]
        reply.answer.append(dns.rrset.from_text(name, 5, "IN", "SRV", *(f"0 33 26257 {host}" for host in hosts)))
        reply.additional += [dns.rrset.from_text(host, 5, "IN", "A", "10.11.0.7") for host in hosts]
    else:
        reply.answer.append(dns.rrset.from_text(name, 7, "IN", "CNAME", f"alias.{SERVICE}."))
        reply.answer.append(dns.rrset.from_text(f"alias.{SERVICE}.", 5, "IN", "A", "10.11.0.7", "10.11.0.8"))
    return reply


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_all_records_of_an_answer_are_told_with_their_times_to_live(pod, protocol):
    with serving(members) as port:
        (answer,) = ask(pod, ["127.0.0.1", port, SERVICE, "A", protocol])
    assert (answer["outcome"], answer["code"], answer["truncated"]) == ("open", "NOERROR", False)
    assert answer["answers"][0] == [SERVICE, "CNAME", 7, f"alias.{SERVICE}"]
    assert {value for _, kind, _, value in answer["answers"] if kind == "A"} == {"10.11.0.7", "10.11.0.8"}
    assert 0 < answer["seconds"] < 1


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_services_are_told_with_ports_and_the_addresses_beside_them(pod, protocol):
    with serving(members) as port:
        (answer,) = ask(pod, ["127.0.0.1", port, f"_grpc._tcp.{SERVICE}", "SRV", protocol])
    assert {row[3] for row in answer["answers"]} == {f"0 33 26257 cockroachdb-{n}.{SERVICE}" for n in range(3)}
    assert {row[3] for row in answer["additional"]} == {"10.11.0.7"}


@pytest.mark.parametrize("code", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_codes_are_told_apart(pod, code):
    def refuse(query):
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.from_text(code))
        return reply

    with serving(refuse) as port:
        told = ask(pod, *(["127.0.0.1", port, SERVICE, "A", protocol] for protocol in ("udp", "tcp")))
    assert [(answer["outcome"], answer["code"]) for answer in told] == [("open", code)] * 2


def test_a_truncated_answer_is_told(pod):
    def cut(query):
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.TC
        return reply

    with serving(cut) as port:
        (answer,) = ask(pod, ["127.0.0.1", port, SERVICE, "A", "udp"])
    assert answer["truncated"]


def test_answers_keep_the_order_of_the_questions_whoever_answers(pod):
    with serving(members) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        told = ask(
            pod,
            ["127.0.0.1", silent.getsockname()[1], SERVICE, "A", "udp"],
            ["127.0.0.1", port, SERVICE, "A", "tcp"],
            ["127.0.0.1", port, SERVICE, "A", "udp"],
            timeout=0.3,
            tries=2,
        )
    assert [answer["outcome"] for answer in told] == ["dropped", "open", "open"]
    assert told[0]["seconds"] == 0.3
    assert told[0]["sends"] == 2


def test_a_server_that_takes_the_question_and_stays_silent_has_not_answered(pod):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (answer,) = ask(pod, ["127.0.0.1", silent.getsockname()[1], SERVICE, "A", "tcp"], timeout=0.2)
    assert (answer["outcome"], answer["seconds"]) == ("dropped", 0.2)


def test_nonsense_is_no_answer(pod):
    class Nonsense:
        def __init__(self, query):
            self.query = query

        def to_wire(self):
            header = struct.pack("!HHHHHH", self.query.id, 0x8180, 0, 1, 0, 0)
            return header + b"\xc0\x0c" + b"\0" * 10

    with serving(Nonsense) as port:
        (answer,) = ask(pod, ["127.0.0.1", port, SERVICE, "A", "udp"])
    assert answer["broken"]
    assert answer["answers"] == []


def test_the_own_resolver_is_asked_for_names_as_programs_do(pod):
    run = pod.run({"op": "resolve", "names": ["localhost", "no such name"], "timeout": 5.0})
    found, missing = run.operations[0]["names"]
    assert found["addresses"] == ["127.0.0.1"]
    assert missing["addresses"] == []
    assert missing["error"]
    assert isinstance(run.operations[0]["configuration"], str)
