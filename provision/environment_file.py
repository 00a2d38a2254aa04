"""From an environment file to an environment, or to a list of what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from provision.environment import Environment
from provision.environment_checks import check_key_files, check_kubeconfigs, check_plan
from provision.environment_errors import EnvironmentFileError, Problem, translate
from provision.yaml_document import YamlDocument, read_yaml


def load_environment(path: Path, *, kubeconfigs: bool = True) -> Environment:
    """Read and check an environment file.

    Args:
        path: the YAML file. Relative paths in it start at its folder.
        kubeconfigs: also look at the kubeconfig and key files that it names (but do not talk to any cluster).

    Raises:
        EnvironmentFileError: anything is wrong with it.
    """
    document = read_yaml(path)
    try:
        environment = Environment.model_validate(document.data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise _error(document, [translate(details, Environment) for details in error.errors()]) from None
    if problems := list(check_plan(environment)):
        raise _error(document, problems)
    if kubeconfigs and (problems := [*check_kubeconfigs(environment), *check_key_files(environment)]):
        raise _error(document, problems)
    return environment


def _error(document: YamlDocument, problems: Iterable[Problem]) -> EnvironmentFileError:
    return EnvironmentFileError(
        document.path,
        [
            replace(problem, line=document.line(problem.location), region=_region_name(document, problem))
            for problem in problems
        ],
    )


def _region_name(document: YamlDocument, problem: Problem) -> str | None:
    """The name that the file gives to the region of a location like ("regions", 1, "pod_cidr")."""
    match problem.location:
        case ("regions", int(index), _, *_):
            region = document.data["regions"][index]
            name = region.get("name") if isinstance(region, dict) else None
            return name if isinstance(name, str) else None
        case _:
            return None
