"""The plugins of the suites, one concern each. Each stands after those it builds on."""

pytest_plugins = [
    "fixtures.progress",
    "fixtures.facts",
    "fixtures.environment",
    "fixtures.probing",
    "fixtures.database",
    "fixtures.churn",
    "fixtures.outage",
    "fixtures.nameservers",
    "fixtures.policy_lift",
    "fixtures.peering",
    "fixtures.requirements",
    "fixtures.lease",
    "fixtures.evidence",
    "fixtures.survival.apart",
    "fixtures.survival.plugin",
    "fixtures.require",
    "fixtures.compliance",
    "fixtures.options",
]
