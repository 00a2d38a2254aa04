"""The condition of a lab's database, as its operator would see it: asked in its pods, with the lab's own keys.

Nothing here is used by the suites' own instruments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from analysis.facts import COCKROACHDB
from analysis.plan import DatabasePlan
from provision.faults import Control, Finished
from provision.lab.database.certificates import SUPERUSER

HOLDING = ("running", "streaming")
"""States of a member that follows, or leads."""


def pod_place(plan: DatabasePlan, region: str, number: int = 0) -> str:
    """A database pod as `Control.run` names it."""
    return f"{region}/{plan.namespace(region)}/{plan.service}-{number}"


def database_of(control: Control) -> DatabasePlan:
    """The plan of the lab's database."""
    return control.plan.database or DatabasePlan()


def run_sql(
    control: Control, region: str, *statements: str, check: bool = True, database: str = "postgres"
) -> Finished:
    """Run statements at the region's member as its superuser, each by itself; rows come back as JSON, a line each."""
    plan = database_of(control)
    home = control.pki / "database"
    asked = {
        "host": plan.pod_name(region, f"{plan.service}-0"),
        "port": plan.sql_port,
        "user": SUPERUSER,
        "database": database,
        "certificates": {
            "sslrootcert": str(home / "ca.pem"),
            "sslcert": str(home / f"{SUPERUSER}.pem"),
            "sslkey": str(home / f"{SUPERUSER}-key.pem"),
        },
        "statements": statements,
    }
    argv = [sys.executable, "-I", "-c", _SQL]
    return control.run(pod_place(plan, region), argv, text=json.dumps(asked), check=check)


def rows_of(done: Finished) -> list[list[Any]]:
    """The rows that statements gave; none when they failed."""
    return [json.loads(line) for line in done.out.splitlines()] if done.code == 0 else []


def ask_patroni(control: Control, region: str, path: str, *, method: str = "GET", body: Any = None) -> dict[str, Any]:
    """What the region's member says at that path of its REST interface, with a node's certificate; {} for nothing."""
    plan = database_of(control)
    home = control.pki / "database"
    asked = {
        "url": f"https://127.0.0.1:{plan.console_port}{path}",
        "authority": str(home / "ca.pem"),
        "certificate": str(home / region / "node.pem"),
        "key": str(home / region / "node-key.pem"),
        "method": method,
        "body": body,
    }
    done = control.run(
        pod_place(plan, region), [sys.executable, "-I", "-c", _HTTP], text=json.dumps(asked), check=False
    )
    try:
        told: dict[str, Any] = json.loads(done.out)
    except ValueError:
        return {}
    return told


def members(control: Control) -> list[dict[str, Any]]:
    """The members of the stand-in, as the first of them that answers lists them."""
    for region in control.plan.regions:
        if found := ask_patroni(control, region.name, "/cluster").get("members"):
            return list(found)
    return []


def primary_region(control: Control) -> str:
    """Where the stand-in's primary is; "" for nowhere."""
    leaders = (member for member in members(control) if member.get("role") in ("leader", "primary", "master"))
    return next((member["name"].partition(".")[2] for member in leaders), "")


def standby_regions(control: Control, role: str = "") -> Sequence[str]:
    """Where the stand-in's standbys are; with a role, those of that role ("sync_standby", "replica")."""
    leader = primary_region(control)
    found = [(member["name"].partition(".")[2], member.get("role", "")) for member in members(control)]
    return [region for region, has in found if region != leader and role in ("", has)]


def missing_of_database(control: Control) -> str:
    """What is missing until the lab's database is whole, in a few words; "" when it is."""
    plan = database_of(control)
    for region in control.plan.regions:
        for number in range(plan.replicas):
            path = f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-{number}"
            conditions = ((control.get(region.name, path) or {}).get("status") or {}).get("conditions") or ()
            if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                return f"pod {region.name}/{plan.service}-{number} is not ready"
    if plan.engine == COCKROACHDB:
        return ""
    told = members(control)
    if len(told) < len(control.plan.regions):
        return f"{len(told)} of {len(control.plan.regions)} members are known"
    lagging = [member["name"] for member in told if member.get("state") not in HOLDING or member.get("lag", 0) != 0]
    if lagging:
        return f"{lagging[0]} does not follow"
    if len({member.get("timeline") for member in told}) != 1:
        return "members are on different timelines"
    if not any(member.get("role") == "sync_standby" for member in told):
        return "no standby is synchronous"
    return "" if primary_region(control) else "there is no primary"


_SQL = """
import json, psycopg, sys
asked = json.load(sys.stdin)
with psycopg.connect(
    host=asked["host"], hostaddr="127.0.0.1", port=asked["port"], user=asked["user"], dbname=asked["database"],
    sslmode="verify-ca", connect_timeout=5, autocommit=True, **asked["certificates"]
) as connection:
    for statement in asked["statements"]:
        found = connection.execute(statement)
        for row in found.fetchall() if found.description else ():
            print(json.dumps(row, default=str))
"""
_HTTP = """
import json, ssl, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile=asked["authority"])
context.load_cert_chain(asked["certificate"], asked["key"])
body = None if asked["body"] is None else json.dumps(asked["body"]).encode()
request = urllib.request.Request(asked["url"], data=body, method=asked["method"])
try:
    answer = urllib.request.urlopen(request, timeout=5, context=context)
except urllib.error.HTTPError as error:
    answer = error
print(answer.read().decode())
"""
