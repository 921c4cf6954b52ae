"""Train a Coach preset with several processes on one host: workers play, and this process learns.

Coach has no parameter server for MXNet, and so no workers of its own. It has parts for a cluster: a rollout worker, a
memory that sends transitions over Redis, and checkpoints in a shared folder that carry the network back to the workers.
Here all of them run on one host. The Redis server listens on the loopback interface only, and ends with the training.
"""

import contextlib
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import redis
from rl_coach.base_parameters import RunType, TaskParameters
from rl_coach.checkpoint import CheckpointStateFile
from rl_coach.core_types import EnvironmentEpisodes, Episode, RunPhase, TrainingSteps, Transition
from rl_coach.data_stores.data_store import SyncFiles
from rl_coach.memories.backend.redis import RedisPubSubMemoryBackendParameters
from rl_coach.rollout_worker import rollout_worker
from rl_coach.utilities import shared_running_stats

from sagemaker_rl.coach.files import CoachJobError

ADDRESS = "127.0.0.1"
WAIT_SECONDS = 20  # for the Redis server to answer, and for the workers to end
POLL_SECONDS = 0.05
KEPT_CHECKPOINTS = 3  # more than one, because a worker may still be reading the last but one
ENDLESS = 10**12


def train(graph_manager, options, workers):
    """Train `graph_manager` until its training steps are done, with `workers` processes that play.

    `options` are Coach's command line options. Raises CoachJobError if the algorithm learns with one worker only, if
    Redis does not answer, or if a worker ends early.
    """
    if not graph_manager.agent_params.algorithm.distributed_coach_synchronization_type:
        raise CoachJobError(
            "num_workers is {}, but the algorithm of this preset sets no distributed_coach_synchronization_type: "
            "it learns with one worker only".format(workers)
        )
    os.environ["OMP_NUM_THREADS"] = "1"  # as Coach sets it: more threads in each process only slow each other down
    finished = os.path.join(options.checkpoint_save_dir, SyncFiles.FINISHED.value)
    _remove(finished, CheckpointStateFile(options.checkpoint_save_dir).path)
    with _server() as port, _workers_playing(graph_manager, options, workers, port, finished) as players:
        _learn(graph_manager, options, port, players)


def _parameters(options, **more):
    return TaskParameters(
        framework_type=options.framework, experiment_path=options.experiment_path, use_cpu=options.use_cpu, **more
    )


def _connect(graph_manager, port, channel, kind):
    """Make the memory and the filters of this process exchange data over the Redis server at `port`.

    `channel` is the Redis channel of the transitions. `kind` is the role of the process in Coach, a RunType.
    """
    memory = RedisPubSubMemoryBackendParameters(ADDRESS, port, channel=channel, run_type=str(kind))
    graph_manager.agent_params.memory.register_var("memory_backend_params", memory)
    listen = shared_running_stats.SharedRunningStatsSubscribe.run

    def until_it_ends(self):
        with contextlib.suppress(redis.exceptions.ConnectionError):
            listen(self)

    shared_running_stats.SharedRunningStatsSubscribe.run = until_it_ends


@contextlib.contextmanager
def _server():
    """Run a Redis server on the loopback interface while the block runs, and yield its port.

    Raises CoachJobError if the server does not answer within WAIT_SECONDS.
    """
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp()
    # No limit for messages that the learner has not read yet: Redis would drop the connection, and episodes with it.
    settings = {"port": str(port), "bind": ADDRESS, "save": "", "dir": folder, "loglevel": "warning"}
    words = [word for name, value in sorted(settings.items()) for word in ("--" + name, value)]
    server = subprocess.Popen(["redis-server"] + words + ["--client-output-buffer-limit", "pubsub", "0", "0", "0"])
    try:
        client, deadline = redis.StrictRedis(ADDRESS, port), time.time() + WAIT_SECONDS
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                if server.poll() is not None or time.time() > deadline:
                    raise CoachJobError("redis-server does not answer on {}:{}".format(ADDRESS, port)) from None
                time.sleep(POLL_SECONDS)
        yield port
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _workers_playing(graph_manager, options, workers, port, finished):
    """Run worker processes, `workers` of them, while the block runs. Yield (channel, processes).

    `channel` is the Redis channel to which the workers send transitions, on the server at `port`. After the block, the
    file `finished` is written, which ends the workers, and removed when all have ended.
    """
    channel = "transitions-{}".format(uuid.uuid4())
    fork = multiprocessing.get_context("fork")  # the preset is changed in this process and may not be picklable
    arguments = (graph_manager, options, workers, port, channel, os.getpid())
    processes = [
        fork.Process(target=_run_worker, args=arguments + (number,), name="worker {}".format(number))
        for number in range(workers)
    ]
    sys.stdout.flush()
    for process in processes:
        process.start()
    try:
        yield channel, processes
    finally:
        with open(finished, "w"):
            pass  # workers end when this file exists
        deadline = time.time() + WAIT_SECONDS
        for process in processes:
            process.join(max(0, deadline - time.time()))
            if process.is_alive():
                process.terminate()
                process.join()
        # Otherwise the workers of the next job with these checkpoints would end at once.
        _remove(finished)


class _Checkpoints:
    """A data store for Coach's rollout worker. The checkpoints are in a shared folder, so there is nothing to load.

    `parent` is the process id of the learner.
    """

    def __init__(self, parent):
        self._parent = parent

    def load_from_store(self):
        """Pause for POLL_SECONDS, because Coach calls this in a loop. End the process if the learner has ended."""
        if os.getppid() != self._parent:
            os._exit(1)
        time.sleep(POLL_SECONDS)


def _run_worker(graph_manager, options, workers, port, channel, parent, number):
    """Run the worker with the index `number`: play with the last checkpoint until the learner has finished.

    Transitions are sent to the Redis channel `channel` of the server at `port`. `workers` is the number of all workers,
    `parent` the process id of the learner.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The learner prints each episode too, and a metric must not be found twice.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    _connect(graph_manager, port, channel, RunType.ROLLOUT_WORKER)
    graph_manager.improve_steps = TrainingSteps(ENDLESS)
    if options.seed is not None:
        graph_manager.env_params.seed = options.seed + number + 1
    store, first = _Checkpoints(parent), CheckpointStateFile(options.checkpoint_save_dir)
    # Coach itself would check for the first checkpoint every ten seconds only.
    while first.read() is None:
        store.load_from_store()
    seed = None if options.seed is None else options.seed + number + 1
    parameters = _parameters(options, checkpoint_restore_dir=options.checkpoint_save_dir, seed=seed)
    parameters.task_index = number
    rollout_worker(graph_manager, store, workers, parameters)


def _learn(graph_manager, options, port, players):
    """Run the learner: receive transitions, train `graph_manager`, and save checkpoints for the workers.

    `port` is that of the Redis server, `players` what `_workers_playing` yields: (channel, processes). Raises
    CoachJobError if a worker has ended.
    """
    channel, processes = players
    _connect(graph_manager, port, channel, RunType.TRAINER)
    parameters = _parameters(
        options,
        checkpoint_restore_dir=options.checkpoint_restore_dir,
        checkpoint_save_dir=options.checkpoint_save_dir,
        seed=options.seed,
    )
    messages = redis.StrictRedis(ADDRESS, port).pubsub(ignore_subscribe_messages=True)
    messages.subscribe(channel)
    graph_manager.create_graph(parameters)
    graph_manager.save_checkpoint()
    playing = graph_manager.agent_params.algorithm.num_consecutive_playing_steps
    steps = graph_manager.total_steps_counters[RunPhase.TRAIN]
    end, evaluated = steps + graph_manager.improve_steps, steps + graph_manager.steps_between_evaluation_periods
    while steps < end:
        graph_manager.phase = RunPhase.TRAIN
        for transition in _received(messages, playing, processes):
            graph_manager.emulate_act_on_trainer(type(playing)(1), transition)
        if graph_manager.should_train():
            graph_manager.train()
        graph_manager.phase = RunPhase.UNDEFINED
        if not steps < evaluated:
            evaluated = steps + graph_manager.steps_between_evaluation_periods
            if graph_manager.evaluate(graph_manager.evaluation_steps):
                break
        # Messages that arrived during the training come from the previous policy: drop them.
        while messages.get_message():
            pass
        graph_manager.save_checkpoint()
        _prune(options.checkpoint_save_dir)
    graph_manager.close()


def _received(messages, playing, processes):
    """Yield transitions from `messages`, a subscription of Redis, until there are as many as `playing` asks for.

    `playing` is the number of steps, or of whole episodes, that the algorithm plays before it learns. Raises
    CoachJobError if one of `processes`, the workers, has ended.
    """
    count, episodes = 0, type(playing) is EnvironmentEpisodes
    while count < playing.num_steps:
        message = messages.get_message(timeout=1)
        if message is None:
            ended = [process.name for process in processes if not process.is_alive()]
            if ended:
                raise CoachJobError("{} ended before the training had".format(" and ".join(ended)))
            continue
        sent = pickle.loads(message["data"])
        transitions = sent.transitions if isinstance(sent, Episode) else [sent] if isinstance(sent, Transition) else []
        for transition in transitions:
            count += int(transition.game_over) if episodes else 1
            yield transition


def _prune(folder):
    """Remove all checkpoints in `folder` but the last KEPT_CHECKPOINTS."""
    numbered = [(int(name.split("_")[0]), name) for name in os.listdir(folder) if re.match(r"\d+_Step-", name)]
    last = max(number for number, _ in numbered)
    _remove(*[os.path.join(folder, name) for number, name in numbered if number <= last - KEPT_CHECKPOINTS])


def _remove(*paths):
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
