"""A second init: what the program says, and what is known by it."""

import pytest

from probes.cluster import Completed
from probes.database.cockroachdb.init import try_init
from probes.errors import PodGone


class Pods:
    """Answers any command in the same way."""

    retries = 0

    def __init__(self, answer):
        self._answer = answer
        self.commands = []

    def exec(self, namespace, pod, command, **how):
        self.commands.append((namespace, pod, command))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (Completed(1, b"", b'ERROR: cluster has already been initialized\nFailed running "init"\n'), True),
        (Completed(0, b"Cluster successfully initialized\n", b""), False),
        (Completed(1, b"", b"ERROR: cannot load certificates.\n"), None),
        (PodGone("cockroachdb-0 is gone"), None),
    ],
)
def test_only_the_words_of_a_refusal_are_one(plan, answer, refused):
    pods = Pods(answer)
    trial = try_init(pods, "us-east-1", plan.database)
    assert trial.refused is refused
    assert trial.detail
    [(namespace, pod, command)] = pods.commands
    assert (namespace, pod) == ("us-east-1", "cockroachdb-0")
    assert "--host=cockroachdb-0.cockroachdb.us-east-1.svc.cluster.local:26257" in command
