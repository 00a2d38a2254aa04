"""The requirement catalogue: what there is to verify, and where each requirement says anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from analysis.fleet import Capability
from analysis.nearest import did_you_mean

PROFILES = ("aws-calico", "azure-cilium")


class Severity(str, Enum):
    """What a violation costs, worst first. The values are those of Allure."""

    BLOCKER = "blocker"
    CRITICAL = "critical"
    NORMAL = "normal"
    MINOR = "minor"


class Level(str, Enum):
    """How strict a requirement is (RFC 2119)."""

    MUST = "must"
    SHOULD = "should"


class CatalogueError(ValueError):
    """The catalogue is not written as it should be, or an id in it is asked for that it does not have."""


@dataclass(frozen=True)
class Requirement:
    """One promise.

    Attributes:
        id: area and number ("NET-ROUTE-008").
        title: the promise in one plain sentence.
        area: key of its area ("NET-ROUTE").
        area_name: the area in words ("Route exchange").
        profiles: the profiles it says something about.
        needs: what the environment must allow before it can be verified.
    """

    id: str
    title: str
    area: str
    area_name: str
    severity: Severity
    level: Level
    profiles: tuple[str, ...]
    needs: frozenset[Capability]

    def inapplicable(self, profile: str, capabilities: Iterable[Capability]) -> str | None:
        """Why this requirement cannot be asked of such an environment; None when it can.

        A profile that the catalogue does not know is the user's own, and no requirement is ruled out by it.
        """
        if profile in PROFILES and profile not in self.profiles:
            return f"says something about {' and '.join(self.profiles)} only, and this is {profile}"
        lacking = sorted(capability.value for capability in self.needs - frozenset(capabilities))
        return f"this environment does not offer: {', '.join(lacking)}" if lacking else None


@dataclass(frozen=True)
class Catalogue:
    """All requirements, in the order of the file."""

    requirements: tuple[Requirement, ...]

    def get(self, requirement: str) -> Requirement:
        """The requirement with that id.

        Raises:
            CatalogueError: there is none; the message names the nearest id.
        """
        for candidate in self.requirements:
            if candidate.id == requirement:
                return candidate
        raise CatalogueError(f"there is no requirement {requirement}{did_you_mean(requirement, self._ids())}")

    def select(self, wanted: Iterable[str]) -> tuple[Requirement, ...]:
        """The requirements named by ids or by areas ("NET-POD"), in catalogue order; all of them for no names.

        Raises:
            CatalogueError: a name is neither an id nor an area.
        """
        names = tuple(wanted)
        areas = {requirement.area for requirement in self.requirements}
        for name in names:
            if name not in areas and name not in self._ids():
                raise CatalogueError(f"{name} is no requirement and no area{did_you_mean(name, self._ids() | areas)}")
        return tuple(item for item in self.requirements if not names or item.id in names or item.area in names)

    def _ids(self) -> set[str]:
        return {requirement.id for requirement in self.requirements}


def parse_catalogue(data: Mapping[str, Any]) -> Catalogue:
    """Read the catalogue from what YAML makes of `suites/requirements.yaml`.

    Raises:
        CatalogueError: an entry lacks a field, has an unknown one, or a value nobody defined; the message says where.
    """
    return Catalogue(
        tuple(
            _requirement(identifier, entry, area, group["name"])
            for area, group in data.items()
            for identifier, entry in group["requirements"].items()
        )
    )


def _requirement(identifier: str, entry: Mapping[str, Any], area: str, area_name: str) -> Requirement:
    unknown = set(entry) - {"title", "severity", "level", "profiles", "needs"}
    if unknown:
        raise CatalogueError(f"{identifier}: unknown field {', '.join(sorted(unknown))}")
    if identifier.rpartition("-")[0] != area:
        raise CatalogueError(f"{identifier} stands under {area}")
    profiles = tuple(entry.get("profiles", PROFILES))
    if not profiles or set(profiles) - set(PROFILES):
        raise CatalogueError(f"{identifier}: profiles are {', '.join(PROFILES)}, not {', '.join(profiles) or 'none'}")
    try:
        return Requirement(
            id=identifier,
            title=entry["title"],
            area=area,
            area_name=area_name,
            severity=Severity(entry["severity"]),
            level=Level(entry.get("level", "must")),
            profiles=profiles,
            needs=frozenset(Capability(name) for name in entry.get("needs", ())),
        )
    except KeyError as error:
        raise CatalogueError(f"{identifier}: {error.args[0]} is missing") from error
    except ValueError as error:
        raise CatalogueError(f"{identifier}: {error}") from error
