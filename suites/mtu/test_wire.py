"""MTU and encapsulation: what is on the wire, captured there, and whose packets nodes take in."""

import pytest

from analysis.wire import judge_encapsulated, judge_no_bare_pods, judge_strangers_refused, pcap_files


@pytest.mark.requirement("NET-MTU-004")
@pytest.mark.needs("node-probes", "packet-capture")
def test_packets_between_clusters_are_encapsulated(plan, facts, evidence, require):
    """Between clusters, packets are encapsulated and carry node addresses outside."""
    for name, content in pcap_files(facts.wire.captures).items():
        evidence.data(name, content)
    require(judge_encapsulated(plan, facts.inventory, facts.wire))


@pytest.mark.requirement("NET-MTU-005")
@pytest.mark.needs("node-probes", "packet-capture")
def test_no_pod_address_is_outside(plan, facts, require):
    """No pod address shows as an outer address on the underlay."""
    require(judge_no_bare_pods(plan, facts.wire))


@pytest.mark.requirement("NET-MTU-009")
@pytest.mark.needs("node-probes", "outside")
def test_strangers_are_refused(plan, facts, require):
    """Tunnel packets from a host that is not on the list are dropped."""
    require(judge_strangers_refused(plan, facts.wire))
