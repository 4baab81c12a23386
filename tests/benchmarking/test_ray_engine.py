"""engine=ray: the same calls on the machines of a cluster, here two nodes of one core each on this machine."""

import signal
import threading
import time

import pytest

from saferl.benchmark import main
from saferl.benchmarking.calls import Call
from saferl.benchmarking.ray_engine import RayEngine
from saferl.command_line import UsageError
from tests.benchmarking import calls
from tests.benchmarking.small import planned, words

pytestmark = pytest.mark.slow
MEMORY = 100 << 20  # bytes of a node's object store


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY})
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def engine(cluster):
    engine = RayEngine(cluster.address)
    yield engine
    engine.close()


def test_calls_run_on_both_nodes_and_a_failing_or_dying_one_stops_no_other(engine):
    assert engine.slots == 2
    these = [Call(calls.node, ())] * 6 + [Call(calls.fail, ("the reason",)), Call(calls.die, (signal.SIGKILL,))]
    last = {event.index: event for event in engine.run(these) if event.kind != "started"}
    assert len({last[index].value for index in range(6)}) == 2
    assert last[6].cause == "ValueError: the reason"
    assert last[7].kind == "failed"
    assert "\n" not in last[7].cause


def test_stopping_waits_for_what_is_being_saved(engine, tmp_path):
    def interrupt():
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(engine.run([Call(calls.save_when_interrupted, (str(tmp_path),))]))
    thread.join()
    assert not (tmp_path / "saved").exists()
    engine.stop()
    assert (tmp_path / "saved").exists()


def test_a_benchmark_on_a_cluster_leaves_the_runs_of_a_local_one(cluster, tmp_path):
    given = [word for word in words(tmp_path) if not word.startswith("workers=")]
    assert main([*given, "engine=ray", f"ray_address={cluster.address}"]) == 0
    assert all(run.is_complete for run in planned(tmp_path).runs)


def test_a_cluster_that_is_not_there_costs_one_line():
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(UsageError, match=r"ray_address=127\.0\.0\.1:1: can't be reached"):
        RayEngine("127.0.0.1:1")
