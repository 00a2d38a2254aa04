"""Providers: who brings an environment up, and how to find the right one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from analysis.fleet import Capability, Fleet
from analysis.nearest import did_you_mean
from provision.errors import EnvironmentSpecError, ProvisionError
from provision.lab.topology import AWS_CALICO, TOPOLOGIES

if TYPE_CHECKING:
    from analysis.facts import Networks
    from provision.environment import Environment
    from provision.outages import Outages

LAB = "lab"
LAB_PROFILES = tuple(TOPOLOGIES)
DEFAULT_LAB_PROFILE = AWS_CALICO

PROVIDERS = {
    "attach": "provision.providers.attach:AttachProvider",
    "lab": "provision.providers.lab:LabProvider",
}
"""Provider kind -> "module:class". Imported only when an environment asks for it: a run on one provider must not
pay for, or depend on, what the others import."""


class Progress(Protocol):
    """Tells a person what is going on during anything that takes longer than two seconds."""

    def stage(self, text: str) -> None:
        """A new stage has begun; `text` is a few words without a full stop ("BGP sessions")."""


class NoProgress:
    """Says nothing: for output that is not a terminal, and for tests."""

    def stage(self, text: str) -> None:
        """Stay quiet."""


class Provider(Protocol):
    """Brings one kind of environment up and down. Has no state of its own: the fleet carries all of it."""

    name: str

    def up(
        self,
        environment: Environment,
        *,
        folder: Path,
        progress: Progress,
        needs: frozenset[Capability] = frozenset(),
    ) -> Fleet:
        """Make the environment answer and describe it.

        Args:
            environment: what to bring up or attach to.
            folder: an existing folder that the provider may keep its files in while the environment is up.
            progress: told about each stage.
            needs: what somebody is going to ask for. What a provider makes itself, and takes long (the database), it
                makes only then; the fleet may lack some of them.

        Returns:
            the fleet, which any other process can attach to.

        Raises:
            ProvisionError: it cannot be brought up. Nothing is left behind then.
        """

    def lasting(
        self, environment: Environment, *, progress: Progress, needs: frozenset[Capability] = frozenset()
    ) -> Environment:
        """The same environment in a form that `down` leaves up and that outlives this process; made now if it must be.

        Args:
            environment: what is to last.
            progress: told about each stage.
            needs: as for `up`.

        Raises:
            ProvisionError: it cannot be had in such a form.
        """

    def wait_ready(self, fleet: Fleet, within: timedelta) -> None:
        """Return when the environment is as its plan says it starts: nodes ready, sessions up, DNS answering.

        Raises:
            ProvisionError: it was not ready in time; the text says what was still missing.
        """

    def down(self, fleet: Fleet) -> None:
        """Take away what `up` made, and nothing else. Safe to call twice.

        Raises:
            ProvisionError: something is left; the text says what and where.
        """

    def outages(self, fleet: Fleet) -> Outages:
        """What makes outages in that environment, of the modes that the fleet lists.

        Raises:
            ProvisionError: the environment is no more.
        """

    def networks(self, fleet: Fleet) -> Networks:
        """The regional networks as the cloud (or the lab's stand-in of it) reports them; a gap where it cannot."""


def provider_for(environment: Environment) -> Provider:
    """The provider that the environment names.

    Raises:
        ProvisionError: there is no provider of that kind in this version.
    """
    kind = environment.provider.kind
    try:
        module, _, name = PROVIDERS[kind].partition(":")
    except KeyError:
        raise ProvisionError(
            f"no provider {kind!r}{did_you_mean(kind, PROVIDERS)}", expected=f"one of {', '.join(PROVIDERS)}"
        ) from None
    return cast(Provider, getattr(import_module(module), name)())


def resolve_environment(spec: str) -> Environment:
    """The environment that ``--env`` names: ``lab``, ``lab:PROFILE``, or a YAML file.

    A file whose name is that of a lab ("lab") is meant when it is written as a path ("./lab").

    Raises:
        EnvironmentSpecError: it names neither a file nor a lab profile.
        EnvironmentFileError: the file is there and its content is wrong.
    """
    from provision.environment import lab_environment  # here, because pydantic takes 0.1 s to import
    from provision.environment_file import load_environment

    kind, colon, profile = spec.partition(":")
    if kind == LAB:
        profile = profile if colon else DEFAULT_LAB_PROFILE
        if profile not in LAB_PROFILES:
            raise EnvironmentSpecError(
                f"no lab profile {profile!r}{did_you_mean(profile, LAB_PROFILES)}",
                where=f"--env {spec}",
                expected=f"lab, or lab:PROFILE with one of {', '.join(LAB_PROFILES)}",
            )
        return lab_environment(profile, name=f"{LAB}-{profile}")
    path = Path(spec).expanduser()
    if not path.exists():
        known = (LAB, *(f"{LAB}:{name}" for name in LAB_PROFILES), *_yaml_neighbours(path))
        raise EnvironmentSpecError(
            f"no such file{did_you_mean(spec, known)}",
            where=f"--env {spec}",
            expected="an environment file, lab, or lab:PROFILE",
            remedy="docs/environment.md explains the file; environments/ holds samples to copy",
        )
    return load_environment(path)


def allow_disruption(fleet: Fleet, token: str) -> Fleet:
    """The fleet with leave to disrupt it, given by a person who named the environment.

    Raises:
        ProvisionError: the token is not the environment's name.
    """
    if token != fleet.plan.name:
        raise ProvisionError(
            "leave to disrupt was given for another environment",
            where=f"--allow-disruption {token}",
            expected=f"the name of this environment, {fleet.plan.name}",
            remedy="check which environment you are pointing at before you allow anything to be broken in it",
        )
    from provision.outages import DATABASE_POD_MODES

    database = DATABASE_POD_MODES if Capability.DATABASE_PODS in fleet.capabilities else frozenset()
    return replace(
        fleet,
        capabilities=fleet.capabilities | {Capability.DISRUPTION},
        outage_modes=fleet.outage_modes | database,
    )


def _yaml_neighbours(path: Path) -> tuple[str, ...]:
    """YAML files in the folder that the missing file should have been in, spelt as the user spelt the folder."""
    if not path.parent.is_dir():
        return ()
    return tuple(str(path.parent / other.name) for other in path.parent.iterdir() if other.suffix in {".yaml", ".yml"})
