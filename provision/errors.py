"""Errors of provisioning, told so that the reader knows what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ProvisionError(Exception):
    """An environment could not be understood, brought up, reached or taken down.

    The command line and the pytest plugin print `str(error)` and nothing else: a user's mistake never shows a
    traceback.

    Attributes:
        what: what went wrong, in one sentence without a full stop.
        where: the place: a file and line, a cluster, a command.
        expected: what should have been there.
        observed: what was there instead.
        cause: the likely cause.
        remedy: what the reader should do.
    """

    exit_code: ClassVar[int] = 4
    """What the process exits with, like pytest's own "wrong usage"."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        observed: str = "",
        cause: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.observed = observed
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        """The whole story on as few lines as it needs, labels aligned."""
        labelled = (
            ("expected", self.expected),
            ("observed", self.observed),
            ("likely", self.cause),
            ("do", self.remedy),
        )
        headline = f"{self.where}: {self.what}" if self.where else self.what
        return "\n".join([headline, *(f"  {label:<8}  {text}" for label, text in labelled if text)])


class EnvironmentSpecError(ProvisionError):
    """What was given to ``--env`` names neither a file nor a lab profile."""


class UnreachableError(ProvisionError):
    """An environment is described well, but a part of it does not answer, or not to us."""


class CompoundError(ProvisionError):
    """More than one thing is wrong at once; each is told in full."""

    def __init__(self, what: str, errors: Sequence[ProvisionError]) -> None:
        super().__init__(what)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        """The headline, then every error."""
        return "\n".join([self.what, *(str(error) for error in self.errors)])
