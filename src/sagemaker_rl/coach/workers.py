"""Train a Coach preset in several processes on one host: this one learns, the others play and send what they saw.

Coach's MXNet has no parameter server, and so no workers of its own. But it has parts for a cluster: a rollout worker, a
memory that travels over Redis, and checkpoints in a folder as the way back. Here they meet on one host, over a Redis
server that listens on the loopback alone and ends with the training.
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
SECONDS = 20  # for the server to answer, and for the workers to end
PAUSE = 0.05
KEPT = 3  # checkpoints: one is made after each step of learning, and the workers read the last
ENDLESS = 10**12


def train(graph_manager, options, workers):
    """Train with that many processes that play. `options` are those of Coach's command line."""
    if not graph_manager.agent_params.algorithm.distributed_coach_synchronization_type:
        raise CoachJobError(
            "num_workers is {}, but the algorithm of this preset sets no distributed_coach_synchronization_type: "
            "it learns with one worker only".format(workers)
        )
    os.environ["OMP_NUM_THREADS"] = "1"  # as Coach does: more of them only wait for each other
    finished = os.path.join(options.checkpoint_save_dir, SyncFiles.FINISHED.value)
    _remove(finished, CheckpointStateFile(options.checkpoint_save_dir).path)
    with _server() as port, _playing(graph_manager, options, workers, port, finished) as players:
        _learn(graph_manager, options, port, players)


def _parameters(options, **more):
    return TaskParameters(
        framework_type=options.framework, experiment_path=options.experiment_path, use_cpu=options.use_cpu, **more
    )


def _connect(graph_manager, port, channel, kind):
    """Let the graph's memory and filters speak over Redis, in the part that this process has."""
    memory = RedisPubSubMemoryBackendParameters(ADDRESS, port, channel=channel, run_type=str(kind))
    graph_manager.agent_params.memory.register_var("memory_backend_params", memory)
    listen = shared_running_stats.SharedRunningStatsSubscribe.run

    def until_it_ends(self):
        with contextlib.suppress(redis.exceptions.ConnectionError):
            listen(self)

    shared_running_stats.SharedRunningStatsSubscribe.run = until_it_ends


@contextlib.contextmanager
def _server():
    """A Redis server for as long as the block: its port."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp()
    # What a learner has not read yet waits without a limit: a message that is dropped is an episode that is missing.
    settings = {"port": str(port), "bind": ADDRESS, "save": "", "dir": folder, "loglevel": "warning"}
    words = [word for name, value in sorted(settings.items()) for word in ("--" + name, value)]
    server = subprocess.Popen(["redis-server"] + words + ["--client-output-buffer-limit", "pubsub", "0", "0", "0"])
    try:
        client, deadline = redis.StrictRedis(ADDRESS, port), time.time() + SECONDS
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                if server.poll() is not None or time.time() > deadline:
                    raise CoachJobError("redis-server does not answer on {}:{}".format(ADDRESS, port)) from None
                time.sleep(PAUSE)
        yield port
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _playing(graph_manager, options, workers, port, finished):
    """The processes that play, for as long as the block; and the channel on which they speak."""
    channel = "transitions-{}".format(uuid.uuid4())
    fork = multiprocessing.get_context("fork")  # the preset has been changed here, and may hold what no pickle can
    arguments = (graph_manager, options, workers, port, channel, os.getpid())
    processes = [
        fork.Process(target=_play, args=arguments + (number,), name="worker {}".format(number))
        for number in range(workers)
    ]
    sys.stdout.flush()
    for process in processes:
        process.start()
    try:
        yield channel, processes
    finally:
        with open(finished, "w"):
            """The workers look for this file."""
        deadline = time.time() + SECONDS
        for process in processes:
            process.join(max(0, deadline - time.time()))
            if process.is_alive():
                process.terminate()
                process.join()
        # The next job of these checkpoints must not find it.
        _remove(finished)


class _Checkpoints:
    """The way back, as a store of Coach: it waits for what the learner writes into the folder they share."""

    def __init__(self, parent):
        self._parent = parent

    def load_from_store(self):
        """Asked again and again without a pause."""
        if os.getppid() != self._parent:
            os._exit(1)
        time.sleep(PAUSE)


def _play(graph_manager, options, workers, port, channel, parent, number):
    """One worker: plays with the last checkpoint, until the learner has finished."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The learner speaks of each episode too: metrics would find it twice.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    _connect(graph_manager, port, channel, RunType.ROLLOUT_WORKER)
    graph_manager.improve_steps = TrainingSteps(ENDLESS)
    if options.seed is not None:
        graph_manager.env_params.seed = options.seed + number + 1
    store, first = _Checkpoints(parent), CheckpointStateFile(options.checkpoint_save_dir)
    # Coach looks for it only every ten seconds.
    while first.read() is None:
        store.load_from_store()
    seed = None if options.seed is None else options.seed + number + 1
    parameters = _parameters(options, checkpoint_restore_dir=options.checkpoint_save_dir, seed=seed)
    parameters.task_index = number
    rollout_worker(graph_manager, store, workers, parameters)


def _learn(graph_manager, options, port, players):
    """The learner: waits for what the workers saw, learns, and gives them the next checkpoint."""
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
        # What came while this process learned was played with the policy before.
        while messages.get_message():
            pass
        graph_manager.save_checkpoint()
        _prune(options.checkpoint_save_dir)
    graph_manager.close()


def _received(messages, playing, processes):
    """Transitions, until there are as many steps or whole episodes as the algorithm plays before it learns."""
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
    """Remove the checkpoints before the last KEPT."""
    numbered = [(int(name.split("_")[0]), name) for name in os.listdir(folder) if re.match(r"\d+_Step-", name)]
    last = max(number for number, _ in numbered)
    _remove(*[os.path.join(folder, name) for number, name in numbered if number <= last - KEPT])


def _remove(*paths):
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
