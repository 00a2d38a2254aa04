"""`python -m provision`: keep labs, and go into them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from analysis.nearest import did_you_mean
from provision.errors import ProvisionError
from provision.provider import DEFAULT_LAB_PROFILE, LAB, LAB_PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provision.lab.entry import Entry, LabPod
    from provision.lab.state import Lab
    from provision.lab.topology import LabTopology

USAGE_EXIT_CODE = ProvisionError.exit_code
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_DESCRIPTION = """\
Labs: three regions of a cloud, their clusters and the mesh between them, on this machine, in seconds.

  python -m provision up lab:aws-calico --name demo
  python -m provision up lab:azure-cilium --name mesh
  python -m provision exec demo us-east-1/node-2 -- ip route
  python -m provision down demo
"""

_PLACE_HELP = (
    "a node (us-east-1/node-2), a pod (us-east-1/some-pod, us-east-1/some-namespace/some-pod), "
    "the region's VPC router (us-east-1/vpc); or internet"
)


class _Parser(argparse.ArgumentParser):
    """Exits with 4 for wrong usage, as pytest does."""

    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(USAGE_EXIT_CODE, f"{self.prog}: {message}\n")


class _StatusLine:
    """A line on the terminal that says what is being done; nothing when nobody watches."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = sys.stderr.isatty()

    def stage(self, text: str) -> None:
        """Show the stage in place of the one before."""
        if self._live:
            sys.stderr.write(f"\r\033[K{self._title}: {text} …")
            sys.stderr.flush()

    def clear(self) -> None:
        """Erase the line."""
        if self._live:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code is 0, 4 for a user's mistake, or that of the command run by `exec`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ProvisionError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def up(options: argparse.Namespace) -> int:
    """Bring a lab up and leave it running."""
    from provision.lab import state
    from provision.lab.host import COCKROACH_VARIABLE, COREDNS_VARIABLE
    from provision.lab.kube.real.assets import find_assets
    from provision.lab.launcher import await_stage, launch, let_live
    from provision.lab.stages import Stage

    began = time.monotonic()
    if options.cockroach is not None:
        os.environ[COCKROACH_VARIABLE] = options.cockroach
    topology = _topology(options)
    kube_assets = find_assets(options.kube_assets)
    if options.coredns is not None:
        os.environ[COREDNS_VARIABLE] = options.coredns
    folder = state.claim(topology.name)
    with _status_line(topology.name) as line:
        try:
            lab = launch(topology, folder, progress=line, kube_assets=kube_assets)
        except BaseException:
            state.forget(folder)
            raise
        try:
            await_stage(lab, Stage.READY, progress=line)
        except KeyboardInterrupt:
            state.remove(lab)
            raise
        except BaseException:
            state.end(lab)
            raise
        let_live(lab)
    _print_how_to_use(lab, topology, time.monotonic() - began)
    return 0


def down(options: argparse.Namespace) -> int:
    """End a lab and delete its folder."""
    from provision.lab import state

    state.remove(state.find_lab(options.name))
    return 0


def heal(options: argparse.Namespace) -> int:
    """Put back what an outage of an environment has left broken: one whose run was killed."""
    from provision.outages.journal import journals_of

    healed = [line for journal in journals_of(options.name) for line in journal.heal()]
    print("\n".join(healed) if healed else f"{options.name}: no outage was left behind")
    return 0


def list_labs(options: argparse.Namespace) -> int:
    """Say which labs there are, and which environments have an outage."""
    from provision.lab import state
    from provision.outages.journal import journals

    labs = state.all_labs()
    if options.json:
        print(json.dumps([_summary(lab) for lab in labs], indent=2))
        return 0
    if labs:
        rows = [
            ("NAME", "STATE", "PROFILE", "SINCE"),
            *((lab.state.name, lab.stage, lab.state.profile, lab.state.created) for lab in labs),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        print("no labs; bring one up with: python -m provision up lab:aws-calico --name demo")
    for name, journal in journals():
        print(f"\n{name} has an outage: {journal.summary}\n  python -m provision heal {name}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Describe a lab: its state, its files, its nodes and pods."""
    from provision.lab import state

    lab = state.find_lab(options.name)
    description = _description(lab)
    if options.json:
        print(json.dumps(description, indent=2))
        return 0
    for key in ("name", "state", "environment", "kubeconfig", *(["outage"] if description["outage"] else [])):
        print(f"{key:<12} {description[key]}")
    for region, parts in description["regions"].items():
        print(f"\n{region}  {parts['api']}")
        for node in parts["nodes"]:
            role = "  route reflector" if node["reflector"] else ""
            print(f"  {node['alias']:<10} {node['address']:<15} {node['name']}{role}")
        for pod in parts["pods"]:
            print(f"  {pod['namespace']}/{pod['name']}  {pod['address'] or '-'}  on {pod['node']}")
    return 0


def execute(options: argparse.Namespace) -> int:
    """Become the command, run at a place of the lab: streams, signals and exit code are its own."""
    from provision.lab import state
    from provision.lab.entry import Entry, environment

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ProvisionError(
            "no command given",
            where=f"exec {options.name} {options.place}",
            expected=f"python -m provision exec {options.name} {options.place} -- ip route",
        )
    argv = Entry(state.find_lab(options.name)).command(options.place, command)
    sys.stdout.flush()
    os.execvpe(argv[0], argv, environment())  # noqa: S606


def shell(options: argparse.Namespace) -> int:
    """Open a shell at a place of the lab."""
    from provision.lab import state
    from provision.lab.entry import Entry, environment

    argv = Entry(state.find_lab(options.name)).command(options.place, ["bash", "--norc", "-i"])
    os.execvpe(argv[0], argv, {**environment(), "PS1": f"{options.name} {options.place} # "})  # noqa: S606


def _topology(options: argparse.Namespace) -> LabTopology:
    from provision.lab.host import database_engine
    from provision.lab.topology import TOPOLOGIES, DatabaseTimers, PolicyPeers, Timers

    kind, colon, profile = options.environment.partition(":")
    profile = profile if colon else DEFAULT_LAB_PROFILE
    known = [f"{LAB}:{name}" for name in LAB_PROFILES]
    if kind != LAB or profile not in LAB_PROFILES:
        raise ProvisionError(
            f"no such environment to bring up{did_you_mean(options.environment, known)}",
            where=options.environment,
            expected=f"one of {', '.join(known)}",
        )
    if not _NAME.fullmatch(options.name):
        raise ProvisionError(
            "a lab cannot have that name",
            where=f"--name {options.name}",
            expected="small letters, digits and hyphens, at most 63, like demo or my-lab-2",
        )
    try:
        size = {"nodes": options.nodes} if options.nodes is not None else {}
        return TOPOLOGIES[profile](
            options.name,
            regions=options.regions,
            pods=options.pods,
            timers=Timers(options.timers),
            database=options.database,
            engine=database_engine(),
            database_timers=DatabaseTimers(options.database_timers),
            policy_peers=PolicyPeers(options.policy_peers),
            **size,
        )
    except ValueError as error:
        raise ProvisionError(str(error), where=f"up {options.environment}") from None


def _print_how_to_use(lab: Lab, topology: LabTopology, seconds: float) -> None:
    name, region = topology.name, topology.regions[0]
    print(
        f"{name} is up after {seconds:.1f} s: {len(topology.regions)} regions, {len(topology.nodes)} nodes\n"
        f"\n"
        f"  export KUBECONFIG={lab.folder.admin_kubeconfig}\n"
        f"  kubectl --context {region.name} get pods -A\n"
        f"  pytest suites/ --env {lab.folder.environment}\n"
        f"  python -m provision exec {name} {region.name}/{region.nodes[-1].alias} -- ip route\n"
        f"  python -m provision down {name}"
    )


def _summary(lab: Lab) -> dict[str, str]:
    from provision.outages.journal import LAB_JOURNAL, Journal

    return {
        "name": lab.state.name,
        "state": lab.stage,
        "profile": lab.state.profile,
        "created": lab.state.created,
        "environment": str(lab.folder.environment),
        "kubeconfig": str(lab.folder.admin_kubeconfig),
        "outage": Journal(lab.folder.path / LAB_JOURNAL).summary,
    }


def _description(lab: Lab) -> dict[str, Any]:
    from provision.lab.entry import Entry

    entry, stage = Entry(lab), lab.stage
    regions = {}
    for region in entry.topology.regions if lab.state.api else ():
        pods = _pods(entry, region.name) if stage in ("api", "ready") else ()
        regions[region.name] = {
            "api": lab.state.api[region.name],
            "nodes": [
                {
                    "name": node.name,
                    "alias": node.alias,
                    "address": str(node.address),
                    "reflector": node.is_reflector,
                }
                for node in region.nodes
            ],
            "pods": [
                {
                    "namespace": pod.namespace,
                    "name": pod.name,
                    "node": pod.node,
                    "address": str(pod.address) if pod.address else None,
                }
                for pod in pods
            ],
        }
    summary = _summary(lab)
    return {key: summary[key] for key in ("name", "state", "environment", "kubeconfig", "outage")} | {
        "regions": regions
    }


def _pods(entry: Entry, region: str) -> tuple[LabPod, ...]:
    """The region's pods; none, and a word on standard error, when its API server does not answer."""
    try:
        return entry.pods(region)
    except ProvisionError as error:
        print(error, file=sys.stderr)
        return ()


@contextmanager
def _status_line(title: str) -> Iterator[_StatusLine]:
    line = _StatusLine(title)
    try:
        yield line
    finally:
        line.clear()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m provision", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")

    def command(name: str, run: Callable[[argparse.Namespace], int], help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        sub.set_defaults(run=run)
        return sub

    sub = command("up", up, "bring a lab up and leave it running in the background")
    sub.add_argument("environment", metavar="lab:PROFILE", help=f"one of {', '.join(f'lab:{p}' for p in LAB_PROFILES)}")
    sub.add_argument("--name", required=True, help="what to call it; every other command asks for this name")
    sub.add_argument("--regions", type=int, default=3, metavar="N", help="regions, 2 to 8 (default: 3)")
    sub.add_argument(
        "--nodes",
        type=int,
        metavar="N",
        help="nodes in each region, control plane included (default: the profile's own, 4 in aws-calico, "
        "3 in azure-cilium)",
    )
    sub.add_argument("--pods", type=int, default=1, metavar="N", help="sample pods on each node (default: 1)")
    sub.add_argument(
        "--timers",
        choices=("fast", "calico"),
        default="fast",
        help="BGP timers of aws-calico: fast notices a lost peer in 3 s, calico is what Calico sets: 240 s "
        "(default: fast)",
    )
    sub.add_argument(
        "--database",
        action="store_true",
        help="run the database in the database pods (default: they only have names and addresses)",
    )
    sub.add_argument(
        "--database-timers",
        choices=("fast", "slow"),
        default="fast",
        help="with --database: fast replaces a lost primary within about 12 s, slow within about 30 s and bears a "
        "busier machine (default: fast)",
    )
    sub.add_argument(
        "--policy-peers",
        choices=("federation", "network-sets"),
        default="federation",
        help="by what policies of aws-calico know the other clusters' pods: each by its labels, or all of a cluster's "
        "addresses by those of one set (default: federation)",
    )
    sub.add_argument(
        "--kube-assets",
        metavar="DIR",
        help="run on the kube-apiserver and etcd of this folder (default: $KUBEBUILDER_ASSETS, else the lab's own)",
    )
    sub.add_argument(
        "--coredns",
        metavar="PROGRAM",
        help="answer names with this CoreDNS (default: $MESHPROOF_COREDNS, one on the PATH, else another server "
        "that plays it)",
    )
    sub.add_argument(
        "--cockroach",
        metavar="PROGRAM",
        help="with --database: run this CockroachDB (default: $COCKROACH, one on the PATH, else PostgreSQL with "
        "Patroni that plays it)",
    )

    sub = command("down", down, "take a lab down, running or dead, and leave nothing of it")
    sub.add_argument("name", metavar="NAME", help="the lab's name")

    sub = command("heal", heal, "put back what an outage has left broken, in a lab or in any other environment")
    sub.add_argument("name", metavar="NAME", help="the environment's name, as in its file")

    sub = command("list", list_labs, "list the labs of this user, and environments that have an outage")
    sub.add_argument("--json", action="store_true", help="as JSON, for other programs")

    sub = command("status", status, "show a lab's state, files, nodes and pods")
    sub.add_argument("name", metavar="NAME", help="the lab's name")
    sub.add_argument("--json", action="store_true", help="as JSON, for other programs")

    sub = command("exec", execute, "run a command on a node, in a pod's network or on a VPC router, as root of the lab")
    sub.usage = "python -m provision exec NAME REGION/NAME -- COMMAND …"
    sub.add_argument("name", metavar="NAME", help="the lab's name")
    sub.add_argument("place", metavar="REGION/NAME", help=_PLACE_HELP)
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …", help="the command and its arguments")

    sub = command("shell", shell, "open a shell on a node, in a pod's network or on a VPC router")
    sub.add_argument("name", metavar="NAME", help="the lab's name")
    sub.add_argument("place", metavar="REGION/NAME", help=_PLACE_HELP)
    return parser


if __name__ == "__main__":
    sys.exit(main())
