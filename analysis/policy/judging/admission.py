"""NET-POL-022: does the API take the policy objects as they were written?"""

from __future__ import annotations

from analysis.facts import Policies
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

OF_POLICY = "Policy"
"""How the kinds end that are policies: all of Calico's, Kubernetes' and Cilium's do."""


def judge_admission(policies: Policies) -> Verdict:
    """NET-POL-022: offered once more as a dry run, every policy object is taken, and comes back with all its fields."""
    violations, gaps = [], gap_findings(policies.gaps, "admissions", "objects")
    asked = set()
    for admission in policies.admissions:
        name = f"{admission.namespace}/{admission.name}" if admission.namespace else admission.name
        subject = f"{admission.region}: {admission.kind} {name}"
        asked.add((admission.region, admission.kind, admission.namespace, admission.name))
        if admission.accepted is None:
            gaps.append(Finding(subject, "to be offered to the API as a dry run", admission.message or "it was not"))
        elif not admission.accepted:
            cause = "the manifest is for another version of the API, or was never applied by this one"
            violations.append(Finding(subject, "to be accepted", f"refused: {admission.message}", cause))
        elif admission.dropped:
            cause = (
                "a field that this version of the API does not know, or that is misspelt, is left out without a word"
            )
            dropped = f"{listed(admission.dropped)} dropped"
            violations.append(Finding(subject, "to come back with all its fields", dropped, cause))
    unasked = [
        item
        for item in policies.objects
        if item.kind.endswith(OF_POLICY) and (item.region, item.kind, item.namespace, item.name) not in asked
    ]
    gaps += [
        Finding(f"{item.region}: {item.kind} {item.name}", "to be offered to the API as a dry run", "it was not")
        for item in unasked
    ]
    return conclude(
        expected="the API accepts every policy object and drops none of its fields",
        examined=sum(admission.accepted is not None for admission in policies.admissions),
        what="policy objects",
        violations=violations,
        gaps=gaps,
        remedy="kubectl apply --dry-run=server --validate=strict -f FILE tells the field: write it as this version's "
        "CRD has it, or leave it out",
    )
