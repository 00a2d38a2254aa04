"""What network policy does: new connections between pods that wear the roles' labels, strangers, nodes and others.

Everybody tries every port at everybody else at once. A flow that must be stopped has controls: where the same two pods
have something that must pass, that is one; else a pod that no policy stops is tried beside each end that one does.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from analysis.facts import Enforcement, Gap
from analysis.fleet import Capability
from probes.changes import try_changes
from probes.deploy import ProbeSet
from probes.detours import try_node_ports
from probes.flows import try_flows
from probes.mesh import Mesh
from probes.roles import cast
from probes.scene import Scene
from probes.sweeps import SweepWidth, sweep


def observe_enforcement(mesh: Mesh, probe_set: ProbeSet) -> Enforcement:
    """Place pods of all roles, try, and remove them. Raises ProbeError when not one could be placed."""
    if mesh.fleet.plan.policy is None or Capability.POLICY not in mesh.fleet.capabilities:
        return Enforcement((), (), gaps=(Gap("", "flows under policy", "the environment file has no section policy"),))
    with cast(mesh, probe_set) as actors:
        scene = Scene.of(mesh, probe_set, actors)
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="policy") as beside:
            sweeping = beside.submit(sweep, mesh, scene, SweepWidth(mesh.sweep_width))
            changing = beside.submit(try_changes, mesh, probe_set, scene, actors)
            going_around = beside.submit(try_node_ports, mesh, scene)
            tried = try_flows(mesh, scene.sides, scene.flows())
            swept, changes, around = sweeping.result(), changing.result(), going_around.result()
    gaps = [*actors.gaps, *scene.gaps, *tried.gaps, *swept.gaps, *changes.gaps, *around.gaps]
    if not any(protocol == "SCTP" for actor in actors.actors for protocol, _ in actor.doors):
        gaps.append(Gap("", "flows over SCTP", "no kernel here lets a pod listen for it", ("sctp",)))
    participants = (*scene.participants(tried.unwell), *(side.participant for side in changes.sides))
    return Enforcement(
        participants, (*tried.trials, *changes.trials, *around.trials), swept.sweeps, tuple(gaps), scene.ipv6
    )
