"""Namespaces and the commands in them, in a container that holds nothing else."""

import pytest


def test_a_namespace_has_a_name_for_ip_and_its_loopback_up(contained):
    assert "UNKNOWN" in contained("""
        netns.create("a")
        print(subprocess.check_output(["ip", "-n", "a", "-br", "link"], text=True))
    """)


def test_the_thread_comes_back_even_after_an_error(contained):
    contained("""
        here = os.readlink("/proc/thread-self/ns/net")
        netns.create("a")
        try:
            with netns.inside("a"):
                assert os.readlink("/proc/thread-self/ns/net") != here
                raise KeyError
        except KeyError:
            pass
        assert os.readlink("/proc/thread-self/ns/net") == here
    """)


def test_a_socket_stays_where_it_was_made(contained):
    contained("""
        for name in "ab":
            netns.create(name)
        listeners = [netns.open_socket(name, socket.AF_INET, socket.SOCK_STREAM) for name in "ab"]
        for listener in listeners:
            listener.bind(("127.0.0.1", 80))
    """)


def test_a_deleted_namespace_is_gone_and_a_second_of_the_same_name_is_refused(contained):
    contained("""
        netns.create("a")
        try:
            netns.create("a")
        except FileExistsError as error:
            assert error.filename == "/run/netns/a"
        else:
            raise AssertionError("made twice")
        netns.delete("a")
        assert os.listdir(netns.NETNS_DIR) == []
        netns.create("a")
    """)


def test_a_command_that_the_kernel_refuses_is_named_with_its_answer(contained):
    said = contained("""
        netns.create("a")
        try:
            kernel.ip("a", ["link set lo up", "link add x type no-such-kind", "link set x up"])
        except kernel.KernelError as error:
            print(error)
    """)

    assert said.startswith("in a: `ip link add x type no-such-kind` failed: ")
    assert "Unknown device type" in said


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_would_leave_the_folder_is_refused(name):
    from provision.lab import netns

    with pytest.raises(ValueError, match="not a name"):
        netns.path(name)
