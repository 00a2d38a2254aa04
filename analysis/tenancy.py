"""DB-FORM: is the database in its own namespace of each cluster, and are its rights given there?"""

from __future__ import annotations

from analysis.facts import Workloads
from analysis.members import database_of
from analysis.nearest import did_you_mean
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings

SERVICE_ACCOUNT = "ServiceAccount"


def judge_namespaces(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-021: each region's namespace is in its own cluster only, and is named like the region."""
    database = database_of(plan)
    planned = {region.name: database.namespace(region.name) for region in plan.regions}
    gaps = gap_findings(workloads.gaps, "namespaces")
    unseen = {gap.region for gap in workloads.gaps if not gap.parts or "namespaces" in gap.parts}
    there = set(workloads.namespaces)
    violations = [
        Finding(f"cluster {region}", f"namespace {namespace}", "it is not there")
        for region, namespace in planned.items()
        if (region, namespace) not in there and region not in unseen
    ]
    for region, namespace in sorted(there):
        owners = [owner for owner, name in planned.items() if name == namespace and owner != region]
        if planned.get(region) != namespace and owners:
            observed = f"namespace {namespace}, which is that of {owners[0]}"
            cause = "its pods there would get names that lead to the other cluster"
            violations.append(Finding(f"cluster {region}", "no namespace of another region", observed, cause))
    return conclude(
        expected="each region's namespace is in its own cluster, and in no other",
        examined=len(plan.regions) - len(unseen),
        what="clusters",
        violations=violations,
        gaps=gaps,
        warnings=[
            f"the plan calls the namespace of {region} {namespace}: zones and join lists must do so too"
            for region, namespace in planned.items()
            if region != namespace
        ],
        remedy="kubectl create namespace REGION in its own cluster, and delete it in the others",
    )


def judge_bindings(plan: Plan, workloads: Workloads) -> Verdict:
    """DB-FORM-023: what is bound to the database's service account is bound to the one in the namespace in use."""
    database = database_of(plan)
    accounts = dict(workloads.service_accounts)
    violations: list[Finding] = []
    examined = 0
    for binding in workloads.bindings:
        namespace = database.namespace(binding.region)
        names = {database.service_account, accounts.get(binding.region, database.service_account)}
        for subject in binding.subjects:
            if subject.kind != SERVICE_ACCOUNT or subject.name not in names:
                continue
            examined += 1
            if subject.namespace != namespace:
                told = f"{subject.namespace or 'no namespace'}{did_you_mean(subject.namespace, [namespace])}"
                cause = "the manifest was written for another namespace: it gives the database's pods nothing"
                where = (
                    f"{binding.region}: {'RoleBinding' if binding.namespace else 'ClusterRoleBinding'} {binding.name}"
                )
                violations.append(Finding(where, f"{subject.name} in namespace {namespace}", told, cause))
    return conclude(
        expected="role bindings of the database's service account name the namespace it runs in",
        examined=examined,
        what="subjects of role bindings",
        violations=violations,
        gaps=gap_findings(workloads.gaps, "bindings", "service_accounts"),
        warnings=[
            f"the database's pods of {region} run as {account}, not as {database.service_account}"
            for region, account in workloads.service_accounts
            if account != database.service_account
        ],
        remedy="set the namespace of the subject in each binding, or apply the manifests with their namespace replaced",
    )
