"""Train with Ray RLlib. A script names its environment and its experiment; the launcher does the rest.

    class Launcher(SageMakerRayLauncher):
        def register_env_creator(self):
            register_env("my-env", lambda config: MyEnv(config))

        def get_experiment_config(self):
            return {"training": {"run": "PPO", "stop": {...}, "config": {"env": "my-env", ...}}}

    if __name__ == "__main__":
        Launcher.train_main()

On several hosts, the first one leads, and the others add their processors to its cluster: see sagemaker_rl.ray.cluster.
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

MIN_CPUS = 3  # Ray is given at least these, so that a trial and its worker also start on smaller hosts
LOST_HOST_SECONDS = 5  # time to notice that a lost host is the reason of a failed training


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
        """Register the environment with Ray. Scripts override this, unless gym knows the environment by name."""

    def get_experiment_config(self):
        """Return the experiments: a dictionary from name to specification, as `ray.tune.run_experiments` takes it.

        Scripts override this; without an override it raises NotImplementedError.
        """
        raise NotImplementedError("{} has no get_experiment_config()".format(type(self).__name__))

    def ray_init_config(self):
        """Return the arguments of `ray.init` for a job of one host, as a dictionary. Scripts may override this."""
        return {"num_cpus": max(self.num_cpus, MIN_CPUS), "num_gpus": self.num_gpus}

    @classmethod
    def train_main(cls, *arguments, **named):
        """Create the launcher with `arguments` and `named`, and train. A script needs only this call.

        An exception is written to the job's failure file and raised again.
        """
        launcher = cls(*arguments, **named)
        with launcher.job.reasons():
            launcher.launch()

    def launch(self):
        """Train on this host if it is the head, else add its processors to the head's cluster until the head ends.

        Raises ClusterError if the hosts do not form one cluster.
        """
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.version = ray_config.version(ray.__version__)
        if not self.is_master_node:
            ray_cluster.follow(self.job, self.version, self.num_cpus, self.num_gpus, ray_cluster.join_seconds())
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
        """Return `experiments` with the job's hyperparameters and folders, and with the names of this version of Ray.

        `experiments` is what `get_experiment_config` returns. Raises HyperparameterError for a hyperparameter that
        names no experiment or no setting.
        """
        for name, path, value in hyperparameters.overrides(self.job.hyperparameters):
            if path[0] not in experiments or len(path) < 2:
                raise hyperparameters.HyperparameterError(
                    "{}{}: the script has no experiment {!r}, only {}{}".format(
                        hyperparameters.PREFIX,
                        ".".join(path),
                        path[0],
                        ", ".join(sorted(experiments)),
                        hyperparameters.suggestion(path[0], list(experiments)),
                    )
                )
            hyperparameters.set_value(experiments, name, path, value)
            print("{} = {!r}".format(name, value))
        return {name: self._specification(name, spec) for name, spec in experiments.items()}

    def _connect(self, ray):
        parameters = inspect.signature(ray.init).parameters
        if len(self.job.hosts) == 1:
            arguments = {
                "include_dashboard": False,
                "include_webui": False,
                # No other host connects to this one, and the loopback address needs no network.
                "_node_ip_address": "127.0.0.1",
                "node_ip_address": "127.0.0.1",
            }
            arguments = {name: value for name, value in arguments.items() if name in parameters}
            ray.init(**dict(arguments, **self.ray_init_config()))
            return
        self._cluster = ray_cluster.Head(self.job, self.version)
        address = self._cluster.start(max(self.num_cpus, MIN_CPUS), self.num_gpus)
        ray.init(**{"address" if "address" in parameters else "redis_address": address})
        # Ray before 0.8 has the list of nodes in another place.
        nodes = getattr(ray, "nodes", None) or (lambda: ray.global_state.client_table())
        self._cluster.wait(nodes, ray_cluster.join_seconds())
        self._cluster.watch(nodes, self._abort)

    def _abort(self, sentence):
        """Write `sentence` as the job's failure and end this process. The training may never notice a lost host.

        Runs in the thread that watches the hosts.
        """
        time.sleep(LOST_HOST_SECONDS)
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
            # Ray's processes get the signal too, so Ray can no longer be used here.
            print("stopped by SageMaker: the last checkpoint becomes the model")
            self.export(sorted(experiments), started)
            sys.stdout.flush()
            os._exit(0)

        signal.signal(signal.SIGTERM, stop)
        try:
            run_experiments(experiments, **self._reporting(run_experiments))
        except Exception as error:
            if self._cluster and ray_cluster.wait_for(lambda: self._cluster.lost, LOST_HOST_SECONDS):
                raise ray_cluster.ClusterError(self._cluster.message()) from error
            raise
        self.export(sorted(experiments), started)

    def export(self, experiments, started):
        """Copy the last checkpoint of the best trial to the model folder, and export its policy if possible.

        `experiments` are the names of the experiments. Checkpoints from before `started`, in seconds since the epoch,
        do not count.
        """
        checkpoints = []
        for name in experiments:
            folder = os.path.join(self.job.checkpoints, name)
            checkpoints += [path for path in ray_files.checkpoints(folder) if os.path.getmtime(path) >= started - 1]
        if not checkpoints:
            print("no checkpoint was made, so there is no model")
            return
        # The newest checkpoint of the trial with the highest mean reward.
        order = {path: number for number, path in enumerate(checkpoints)}
        best = max(checkpoints, key=lambda path: (self._reward(path), order[path]))
        staged = self.staged.get(os.path.basename(os.path.dirname(best)))
        print("model: {} of {}".format(ray_files.export(best, self.job.model, staged), best))
        if ray_export.is_exportable(self.job.model):
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
                print("experiment {!r} continues from {}".format(name, restore))
                spec["restore"] = restore
        return spec

    def _restore_from(self):
        own = ray_files.checkpoints(self.job.checkpoints) if os.path.isdir(self.job.checkpoints) else []
        if own:
            return ray_files.restore_path(own[-1])
        channel = self.job.channel("checkpoint")
        return ray_files.find_checkpoint(channel) if channel else None

    def _settings(self, spec, config):
        """Return (config, notes): RLlib's configuration `config` with the names of this version of RLlib.

        `notes` are sentences about the changes. `spec` is the experiment's specification, whose `run` and `stop` may be
        changed.
        """
        algorithm = ray_algorithm.find_algorithm(spec["run"])
        if algorithm is None:
            return config, []
        if self._cluster and self.version >= (1, 5):
            spec["run"] = ray_algorithm.pin_to_head(spec["run"], algorithm)
        videos = bool(shutil.which("ffmpeg") or shutil.which("avconv"))
        if not hasattr(algorithm, "get_default_config"):
            known = set(getattr(algorithm, "_default_config", None) or config)
            return ray_config.settings(config, known, videos)
        default = algorithm.get_default_config()
        if isinstance(default, dict):
            return ray_config.settings(config, set(default), videos)
        new, notes = ray_algorithm.new_stack(default, config), []
        if new:
            config, notes = ray_config.new_stack(config)
            spec["stop"] = ray_config.stop(spec.get("stop"))
        config, more = ray_config.settings(config, ray_algorithm.known_settings(default), videos)
        return config, notes + more

    def _reporting(self, run_experiments):
        """Return the arguments of `run_experiments` that make it print two lines an iteration, as a dictionary.

        The dictionary is empty for a Tune without callbacks, which prints as it always did.
        """
        from ray import tune

        parameters = inspect.signature(run_experiments).parameters
        if "callbacks" not in parameters:
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
