"""Train with Ray RLlib: a script names its environment and its experiment, the rest is done here.

    class Launcher(SageMakerRayLauncher):
        def register_env_creator(self):
            register_env("my-env", lambda config: MyEnv(config))

        def get_experiment_config(self):
            return {"training": {"run": "PPO", "stop": {...}, "config": {"env": "my-env", ...}}}

    if __name__ == "__main__":
        Launcher.train_main()

On several hosts the first leads and the others lend it their processors: see ray_cluster.
"""

import inspect
import os
import shutil
import signal
import sys
import time

from sagemaker_rl import hyperparameters
from sagemaker_rl.job import Job
from sagemaker_rl.ray import algorithm as ray_algorithm
from sagemaker_rl.ray import cluster as ray_cluster
from sagemaker_rl.ray import config as ray_config
from sagemaker_rl.ray import export as ray_export
from sagemaker_rl.ray import files as ray_files

LEAST_CPUS = 3  # a trial and its worker also start where there are two
GRACE = 5  # seconds in which a failed training shows whether a lost host is the reason


class SageMakerRayLauncher:
    """A training job of Ray. Scripts override `register_env_creator` and `get_experiment_config`."""

    def __init__(self):
        self.job = Job()
        self.num_cpus = self.job.num_cpus
        self.num_gpus = self.job.num_gpus
        self.host_name = self.job.host
        self.hosts_info = self.job.resources
        self.is_master_node = self.job.is_head
        self.rewards = {}
        self.staged = {}
        self._cluster = None

    def register_env_creator(self):
        """Make the environment known to Ray. Environments that gym knows by name need none."""

    def get_experiment_config(self):
        """The experiments: a dictionary, name to specification, as `ray.tune.run_experiments` takes it."""
        raise NotImplementedError("{} has no get_experiment_config()".format(type(self).__name__))

    def ray_init_config(self):
        """What `ray.init` is given on one host."""
        return {"num_cpus": max(self.num_cpus, LEAST_CPUS), "num_gpus": self.num_gpus}

    @classmethod
    def train_main(cls, *arguments, **named):
        """Train: the one call of a script."""
        launcher = cls(*arguments, **named)
        with launcher.job.reasons():
            launcher.launch()

    def launch(self):
        """Train on this host, or lend it to the head."""
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.version = ray_config.version(ray.__version__)
        if not self.is_master_node:
            ray_cluster.follow(self.job, self.version, self.num_cpus, self.num_gpus, ray_cluster.patience())
            return
        try:
            self._connect(ray)
            self._train()
        finally:
            if self._cluster:
                self._cluster.release()
            ray.shutdown()
            if self._cluster:
                ray_cluster.stop()

    def customize_experiment_config(self, experiments):
        """The script's experiments as they run: with the job's hyperparameters, folders, and this Ray's names."""
        for name, path, value in hyperparameters.overrides(self.job.hyperparameters):
            if path[0] not in experiments or len(path) < 2:
                raise hyperparameters.HyperparameterError(
                    "{}{}: the script has no experiment {!r}, only {}{}".format(
                        hyperparameters.PREFIX,
                        ".".join(path),
                        path[0],
                        ", ".join(sorted(experiments)),
                        hyperparameters.meant(path[0], list(experiments)),
                    )
                )
            hyperparameters.put(experiments, name, path, value)
            print("{} = {!r}".format(name, value))
        return {name: self._specification(name, spec) for name, spec in experiments.items()}

    def _connect(self, ray):
        known = inspect.signature(ray.init).parameters
        if len(self.job.hosts) == 1:
            wanted = {
                "include_dashboard": False,
                "include_webui": False,
                # No other host has to reach this one, and this address needs no network.
                "_node_ip_address": "127.0.0.1",
                "node_ip_address": "127.0.0.1",
            }
            wanted = {name: value for name, value in wanted.items() if name in known}
            ray.init(**dict(wanted, **self.ray_init_config()))
            return
        self._cluster = ray_cluster.Head(self.job, self.version)
        address = self._cluster.start(max(self.num_cpus, LEAST_CPUS), self.num_gpus)
        ray.init(**{"address" if "address" in known else "redis_address": address})
        # Before 0.8 the list of nodes is elsewhere.
        nodes = getattr(ray, "nodes", None) or (lambda: ray.global_state.client_table())
        self._cluster.wait(nodes, ray_cluster.patience())
        self._cluster.watch(nodes, self._abort)

    def _abort(self, sentence):
        """End this process, from the thread that saw a host go: the training may wait for that host for ever."""
        time.sleep(GRACE)
        self.job.fail(sentence)
        print("sagemaker_rl: " + sentence, file=sys.stderr)
        sys.stderr.flush()
        ray_cluster.stop()
        os._exit(1)

    def _train(self):
        from ray.tune import run_experiments

        self.register_env_creator()
        experiments = self.customize_experiment_config(self.get_experiment_config())
        started = time.time()

        def stop(number, frame):
            # Ray's own processes got the signal too: nothing can be asked of them, and nothing waited for.
            print("stopped by SageMaker: the last checkpoint becomes the model")
            self.export(sorted(experiments), started)
            sys.stdout.flush()
            os._exit(0)

        signal.signal(signal.SIGTERM, stop)
        try:
            run_experiments(experiments, **self._reporting(run_experiments))
        except Exception as error:
            if self._cluster and ray_cluster.wait_for(lambda: self._cluster.lost, GRACE):
                raise ray_cluster.ClusterError(self._cluster.sentence()) from error
            raise
        self.export(sorted(experiments), started)

    def export(self, experiments, started):
        """Make the best trial's last checkpoint the model."""
        found = []
        for name in experiments:
            folder = os.path.join(self.job.checkpoints, name)
            found += [path for path in ray_files.checkpoints(folder) if os.path.getmtime(path) >= started - 1]
        if not found:
            print("no checkpoint was made, so there is no model")
            return
        # The last of them, unless another trial ended with a higher mean reward.
        order = {path: number for number, path in enumerate(found)}
        best = max(found, key=lambda path: (self._reward(path), order[path]))
        staged = self.staged.get(os.path.basename(os.path.dirname(best)))
        print("model: {} of {}".format(ray_files.export(best, self.job.model, staged), best))
        if ray_export.wanted(self.job.model):
            print(ray_export.export(self.job.model))

    def _reward(self, checkpoint):
        return self.rewards.get(os.path.basename(os.path.dirname(checkpoint)), float("-inf"))

    def _specification(self, name, spec):
        from ray.tune.experiment import Experiment

        known = set(inspect.signature(Experiment.__init__).parameters) - {"self", "name", "run"}
        spec, notes = ray_config.storage(spec, self.job.checkpoints, known)
        config = dict(spec.get("config") or {})
        if "env" in spec:
            config["env"] = spec.pop("env")
        if isinstance(spec.get("run"), str):
            config, more = self._settings(spec, config)
            notes += more
        spec["config"] = config
        for note in notes:
            print("experiment {!r}: {}".format(name, note))
        if not spec.get("restore"):
            restore = self._restore_from()
            if restore:
                print("experiment {!r} goes on from {}".format(name, restore))
                spec["restore"] = restore
        return spec

    def _restore_from(self):
        own = ray_files.checkpoints(self.job.checkpoints) if os.path.isdir(self.job.checkpoints) else []
        if own:
            return ray_files.inside(own[-1])
        channel = self.job.channel("checkpoint")
        return ray_files.from_channel(channel) if channel else None

    def _settings(self, spec, config):
        """RLlib's part of a specification, in the names of this RLlib."""
        algorithm = ray_algorithm.algorithm(spec["run"])
        if algorithm is None:
            return config, []
        if self._cluster and self.version >= (1, 5):
            spec["run"] = ray_algorithm.on_the_head(spec["run"], algorithm)
        films = bool(shutil.which("ffmpeg") or shutil.which("avconv"))
        if not hasattr(algorithm, "get_default_config"):
            known = set(getattr(algorithm, "_default_config", None) or config)
            return ray_config.settings(config, known, films)
        default = algorithm.get_default_config()
        if isinstance(default, dict):
            return ray_config.settings(config, set(default), films)
        new, notes = ray_algorithm.new_stack(default, config), []
        if new:
            config, notes = ray_config.new_stack(config)
            spec["stop"] = ray_config.stop(spec.get("stop"))
        config, more = ray_config.settings(config, ray_algorithm.known(default), films)
        return config, notes + more

    def _reporting(self, run_experiments):
        """How an experiment speaks: two lines an iteration, where this Tune lets us; else as it always did."""
        from ray import tune

        known = inspect.signature(run_experiments).parameters
        if "callbacks" not in known:
            return {}
        launcher = self

        class Report(tune.Callback):
            def on_trial_result(self, iteration, trials, trial, result, **info):
                for line in ray_config.report(result):
                    print(line)
                sys.stdout.flush()
                mean = ray_config.rewards(result).get("episode_reward_mean")
                folder = getattr(trial, "local_path", None) or getattr(trial, "logdir", None)
                if folder:
                    name = os.path.basename(str(folder).rstrip("/"))
                    launcher.staged[name] = str(folder)
                    if mean is not None:
                        launcher.rewards[name] = mean

        return {"callbacks": [Report()], "verbose": 1 if self.version < (2, 0) else 0}
