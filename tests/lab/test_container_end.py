"""A container ends as a whole: whatever it has started ends with it, however that has detached itself."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from provision.lab.host import LabUnavailableError, isolation
from provision.lab.kube.kubelet.process import end_all_with, mounts_of

_DETACHED = "setsid sh -c 'echo $$; exec sleep 600' & wait"


def test_what_a_container_left_behind_ends_with_it():
    try:
        options = [option for option in isolation() if option in ("--user", "--map-root-user")]
    except LabUnavailableError as reason:
        pytest.skip(str(reason))
    first = subprocess.Popen(["unshare", *options, "--mount", "sh", "-c", _DETACHED], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    left = os.pidfd_open(int(first.stdout.readline()))
    with mounts_of(first.pid) as mounts, mounts_of(os.getpid()) as ours:
        assert mounts is not None
        assert mounts != ours
        first.kill()
        first.wait()
        assert not select.select([left], [], [], 0)[0]
        end_all_with(mounts)
    assert select.select([left], [], [], 10)[0]
    os.close(left)
