"""DB-FORM: do all nodes run the same, existing version of the database?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from analysis.facts import Database, DatabaseNode, Workloads
from analysis.images import image_digest, image_tag
from analysis.members import called
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

OFFICIAL_IMAGE = "cockroachdb/cockroach"
"""Its tags of releases all begin with a "v"."""


def judge_versions(plan: Plan, database: Database, workloads: Workloads) -> Verdict:
    """DB-FORM-009: all nodes run one version, from images whose tags exist and are equal."""
    versions: defaultdict[str, list[DatabaseNode]] = defaultdict(list)
    for node in database.nodes:
        if node.version:
            versions[node.version].append(node)
    most = max(versions, key=lambda version: len(versions[version]), default="")
    violations = [
        Finding(listed(called(plan, node) for node in nodes), f"{most}, as the others", version)
        for version, nodes in versions.items()
        if version != most
    ]
    violations += _image_findings(workloads)
    silent = [node for node in database.nodes if not node.version and node.live is not False]
    gaps = gap_findings(database.gaps, "nodes") + gap_findings(workloads.gaps, "stateful_sets", "pods")
    gaps += [Finding(called(plan, node), "to tell its version", "it told none") for node in silent]
    return conclude(
        expected="all nodes run the same version, and all image tags exist and are equal",
        examined=sum(map(len, versions.values())) and len(workloads.stateful_sets),
        what="StatefulSets",
        violations=violations,
        gaps=gaps,
        remedy="give the image the same tag in every region, spelt as the registry has it",
    )


def _image_findings(workloads: Workloads) -> Iterator[Finding]:
    """What is wrong with images: no tag, one that does not exist, another one than elsewhere."""
    images = {f"{found.region}: StatefulSet {found.name}": found.image for found in workloads.stateful_sets}
    images |= {f"{pod.region}/{pod.name}": pod.image for pod in workloads.pods}
    uses: Counter[str] = Counter(images.values())
    # A tag that lacks the "v" of the others is never the one that most of them should follow.
    usual = max(uses, key=lambda image: (_is_spelt_well(image), uses[image]), default="")
    for image, places in _by_image(images).items():
        subject = listed(places)
        if not _is_spelt_well(image):
            tag = image_tag(image)
            cause = f"{OFFICIAL_IMAGE} has no tag {tag}: those of its releases begin with a v"
            yield Finding(subject, f"image tag v{tag}", image, cause)
        elif image_tag(image) in ("", "latest") and not image_digest(image):
            yield Finding(subject, "an image of one version", image, "each pull may bring another one")
        elif image != usual:
            yield Finding(subject, f"image {usual}, as elsewhere", image)


def _by_image(images: dict[str, str]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for place, image in images.items():
        grouped[image].append(place)
    return grouped


def _is_spelt_well(image: str) -> bool:
    official = image.partition("@")[0].partition(":")[0].endswith(OFFICIAL_IMAGE)
    return not (official and image_tag(image)[:1].isdigit())
