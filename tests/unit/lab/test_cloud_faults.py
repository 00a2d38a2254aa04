"""How faults edit the rules of the lab's cloud: as text that `nft` has listed and reads again."""

from ipaddress import IPv4Network

import pytest

from analysis.facts import SecurityRule
from provision.faults import Finished
from provision.lab.faults import cloud
from provision.lab.topology import aws_calico, azure_cilium

LISTED = """\
table bridge vpc {
\tchain mesh-nodes {
\t\tip saddr 198.51.100.20 tcp dport 22 counter packets 0 bytes 0 accept comment "ssh"
\t\tip saddr { 10.0.1.0/24, 10.1.1.0/24 } tcp dport 179 counter packets 0 bytes 0 accept comment "100 bgp"
\t\tcounter packets 0 bytes 0 drop
\t}
}
"""


def test_a_rule_more_comes_before_all_others():
    rule = SecurityRule("debug", True, 6, (IPv4Network("0.0.0.0/0"),), ports=(2379, 2379))

    assert cloud.with_rule(rule)(LISTED).splitlines()[2] == '\t\ttcp dport 2379 counter accept comment "debug"'


@pytest.mark.parametrize(("name", "left"), [("ssh", "100 bgp"), ("bgp", "ssh")])
def test_a_rule_is_found_by_its_name_with_and_without_priority(name, left):
    text = cloud.without_rule(name)(LISTED)

    assert f'"{left}"' in text
    assert f'{name}"' not in text


@pytest.mark.parametrize(
    ("name", "sources", "line"),
    [
        ("ssh", "", "\t\ttcp dport 22 counter"),
        ("bgp", "10.9.1.0/24", "\t\tip saddr 10.9.1.0/24 tcp dport 179 counter"),
    ],
)
def test_a_rule_gets_other_sources_and_the_rest_stays(name, sources, line):
    text = cloud.from_sources(name, sources)(LISTED)

    assert line in text
    assert len(text.splitlines()) == len(LISTED.splitlines())


class Router:
    """A router that answers every question with the same listing and keeps what it is told."""

    def __init__(self):
        self.told = []

    def run(self, _place, argv, *, text=None, check=True):
        if text is not None:
            self.told.append(text)
        return Finished(0, LISTED if "list" in argv else "", "")


def test_what_was_edited_is_put_back_as_it_was():
    region, router = aws_calico("drawn").regions[0], Router()
    step = cloud.RulesChanged(region, "bridge", "mesh-nodes", cloud.without_rule("ssh"))

    step.heal(router, step.apply(router))

    assert [text.partition("\n")[0] for text in router.told] == ["flush chain bridge vpc mesh-nodes"] * 2
    assert ['"ssh"' in text for text in router.told] == [False, True]


def test_each_cloud_has_faults_of_its_own():
    aws, azure = ({fault.name for fault in cloud.cloud_faults(lab("drawn"))} for lab in (aws_calico, azure_cilium))

    assert aws - azure == {"bare-packets-under-address-check"}
    assert "peering-forbids-forwarded-traffic" in azure - aws
