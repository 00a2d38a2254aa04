"""Errors of the instrument. None of them says anything about the network that was to be observed."""

from __future__ import annotations


class ProbeError(Exception):
    """The instrument failed. `str()` is fit for the person who reads the report."""


class KubeconfigError(ProbeError):
    """A cluster cannot be reached because its kubeconfig or context is wrong."""


class MissingPermissions(ProbeError):  # noqa: N818 - a state of the cluster, told by name
    """The cluster does not allow what the probes need. The message names every missing rule."""


class ApiError(ProbeError):
    """The Kubernetes API refused a request, or did not answer.

    Attributes:
        status: the HTTP status; 0 when there was no answer.
        reason: what the API said.
    """

    def __init__(self, region: str, request: str, status: int, reason: str) -> None:
        said = f"said {status}: {reason}" if status else f"did not answer: {reason}"
        super().__init__(f"the Kubernetes API of {region} {said} ({request})")
        self.status = status
        self.reason = reason


class PodGone(ProbeError):  # noqa: N818
    """The pod that the agent was to run in is no longer there, or no longer running."""


class ExecFailed(ProbeError):  # noqa: N818
    """The exec stream could not be opened, or broke before the command's exit status came."""


class AgentCrashed(ProbeError):  # noqa: N818
    """The agent ended without a result. The message holds the end of its standard error."""


class DeadlineExceeded(ProbeError):  # noqa: N818
    """No result came within the time that was given."""
