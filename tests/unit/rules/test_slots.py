import pytest

from pipeline.config import ClusterConfig
from pipeline.errors import ConfigError
from pipeline.rules.slots import check, local_node, num_slots, several_nodes


def test_cores_are_shared_out_by_trials() -> None:
    assert num_slots(ClusterConfig(cpus_per_trial=2), [{"CPU": 5}]) == 2


def test_in_the_commands_own_process_one_trial_runs_at_a_time_if_there_is_room_for_it() -> None:
    assert num_slots(ClusterConfig(name="here", cpus_per_trial=2), [{"CPU": 5}]) == 1
    with pytest.raises(ConfigError, match=r"cluster\.gpus_per_trial: '1' is more than any node has \(0\)"):
        check(ClusterConfig(name="here", gpus_per_trial=1), [{"CPU": 5}])


@pytest.mark.parametrize(("share", "gpus", "slots"), [(0.25, 1, 4), (0.4, 2, 4), (1.0, 2, 2), (2.0, 3, 1)])
def test_shares_of_different_gpus_do_not_add_up(share: float, gpus: int, slots: int) -> None:
    assert num_slots(ClusterConfig(gpus_per_trial=share), [{"CPU": 64, "GPU": gpus}]) == slots


def test_a_trial_larger_than_the_machine_is_refused_with_both_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        check(ClusterConfig(cpus_per_trial=3, gpus_per_trial=1), [{"CPU": 2}])
    assert str(caught.value) == (
        "cluster.cpus_per_trial: '3' is more than any node has (2). "
        "Set cluster.cpus_per_trial to 2 or less.\n"
        "cluster.gpus_per_trial: '1' is more than any node has (0). "
        "Set cluster.gpus_per_trial to 0."
    )
    check(ClusterConfig(cpus_per_trial=2), [{"CPU": 2}])


def test_the_config_may_allow_fewer_cores_than_there_are() -> None:
    assert local_node(ClusterConfig(num_cpus=1)) == {"CPU": 1}
    assert local_node(ClusterConfig())["CPU"] >= 1


def test_every_node_is_counted_by_itself_and_one_of_them_has_room() -> None:
    nodes = [{"CPU": 1}, {"CPU": 3}, {"CPU": 4, "GPU": 1}]
    assert num_slots(ClusterConfig(cpus_per_trial=2), nodes) == 3
    check(ClusterConfig(cpus_per_trial=4, gpus_per_trial=1), nodes)
    with pytest.raises(ConfigError, match=r"cluster\.cpus_per_trial: '5' is more than any node has \(4\)"):
        check(ClusterConfig(cpus_per_trial=5), nodes)
    with pytest.raises(ConfigError, match="has no node with 4 CPUs and 1 GPUs for a trial"):
        check(ClusterConfig(cpus_per_trial=4, gpus_per_trial=1), [{"CPU": 4}, {"CPU": 1, "GPU": 1}])


def test_slots_that_are_given_count_nodes_that_have_not_joined_yet() -> None:
    cluster = ClusterConfig(name="existing", gpus_per_trial=1, slots=8)
    check(cluster, [{"CPU": 2}])
    assert num_slots(cluster, [{"CPU": 2}]) == 8


def test_slots_for_which_one_node_has_no_room_need_several() -> None:
    joined = ClusterConfig(name="existing", slots=3)
    assert several_nodes(joined, [{"CPU": 2}]) == (
        "cluster.slots=3 needs more nodes than this one, which has room for 2"
    )
    assert several_nodes(joined, [{"CPU": 0}, {"CPU": 8}]) == "2 nodes take part"
    assert several_nodes(joined, [{"CPU": 3}]) == ""
    assert several_nodes(ClusterConfig(slots=3), [{"CPU": 2}]) == ""  # our own Ray never grows
