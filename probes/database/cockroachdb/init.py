"""A second `cockroach init`, which a database that was initialised turns down."""

from __future__ import annotations

from datetime import timedelta

from analysis.facts import InitTrial
from analysis.plan import DatabasePlan
from probes.client import Execs
from probes.errors import ProbeError

WITHIN = timedelta(seconds=30)
PROGRAM = "/cockroach/cockroach"
ALREADY = "already been initialized"
LONGEST = 200


def try_init(cluster: Execs, region: str, plan: DatabasePlan) -> InitTrial:
    """Try it in the region's first pod.

    To be called only where the database has been seen to serve: where it was not, the attempt would create one.

    Args:
        cluster: where commands can be run in pods: that region's.
        region: whose pod.
        plan: its name and where its certificates are.
    """
    pod, namespace = f"{plan.service}-0", plan.namespace(region)
    host = f"{pod}.{plan.service}.{namespace}.svc.cluster.local:{plan.sql_port}"
    command = [PROGRAM, "init", f"--certs-dir={plan.certificate_folder}", f"--host={host}"]
    try:
        done = cluster.exec(namespace, pod, command, within=WITHIN)
    except ProbeError as error:
        return InitTrial(region, pod, None, str(error))
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    detail = said.splitlines()[0][:LONGEST] if said else f"it ended with {done.exit_code} and said nothing"
    if ALREADY in said:
        return InitTrial(region, pod, True, detail)
    return InitTrial(region, pod, False if done.exit_code == 0 else None, detail)
