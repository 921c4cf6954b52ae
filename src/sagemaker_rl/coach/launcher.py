"""Train with RL Coach: a script names its preset, hyperparameters change it, the rest is done here.

    class Launcher(SageMakerCoachPresetLauncher):
        def default_preset_name(self):
            return "preset-cartpole-clippedppo"      # preset-cartpole-clippedppo.py beside the script

        def map_hyperparameter(self, name, value):
            if name == "learning_rate":
                return self.apply_hyperparameter({"rl.agent_params.network_wrappers.main.learning_rate": value})
            return super().map_hyperparameter(name, value)

    if __name__ == "__main__":
        Launcher.train_main()

A preset is a Python file with a `graph_manager`, of the job's own code or one of Coach's (`CartPole_ClippedPPO`).
"""

import os
import signal
import sys

from rl_coach import core_types, logger
from rl_coach.base_parameters import Frameworks
from rl_coach.coach import CoachLauncher
from rl_coach.utils import list_all_presets

from sagemaker_rl import hyperparameters
from sagemaker_rl.coach import export as coach_export
from sagemaker_rl.coach import files as coach_files
from sagemaker_rl.job import Job


class Stopped(BaseException):
    """SageMaker stops the job: SIGTERM."""


def _steps(name):
    kind = getattr(core_types, name)
    return lambda value: kind(int(float(value)))


TYPES = {name: _steps(name) for name in coach_files.STEPS if hasattr(core_types, name)}


class SageMakerCoachPresetLauncher(CoachLauncher):
    """A training job of Coach. Scripts override `default_preset_name` and, for names of their own, two more."""

    def __init__(self):
        self.job = Job()
        self.num_cpus, self.num_gpus, self.host_name = self.job.num_cpus, self.job.num_gpus, self.job.host
        self.experiment_path = self.job.intermediate
        self.checkpoint_dir = os.path.join(self.job.checkpoints, "coach")
        if self.job.checkpoints == self.job.intermediate:
            self.checkpoint_dir = os.path.join(self.job.output, "checkpoint")
        self._own, self._others = coach_files.own(self.job.hyperparameters)
        self._workers = int(self._own.get("num_workers", 1))

    def default_preset_name(self):
        """The preset, where the hyperparameter RLCOACH_PRESET names none."""
        raise coach_files.CoachJobError(
            "name a preset: the hyperparameter RLCOACH_PRESET, or {}.default_preset_name()".format(type(self).__name__)
        )

    def map_hyperparameter(self, name, value):
        """A hyperparameter that is not `rl.`: a script says here which settings it means; none is known otherwise."""
        raise coach_files.CoachJobError(
            "hyperparameter {!r}: neither one of the launcher's ({}) nor mapped by the script".format(
                name, ", ".join(coach_files.OWN)
            )
        )

    def apply_hyperparameter(self, settings):
        """Put settings, as {"rl.agent_params.algorithm.discount": 0.9}, into the preset."""
        for name, path, value in hyperparameters.overrides(settings, TYPES):
            hyperparameters.put(self.graph_manager, name, path, value)
            print("{} = {}".format(name, _shown(value)))

    @classmethod
    def train_main(cls, *arguments, **named):
        """Train: the one call of a script."""
        launcher = cls(*arguments, **named)
        with launcher.job.reasons():
            launcher.launch()

    def launch(self):
        """Train the preset; its last checkpoint becomes the model."""
        signal.signal(signal.SIGTERM, _stop)
        parent = os.getpid()
        try:
            super().launch()
            if self._workers == 1:
                # Whatever trained for less than an interval counts too. Several workers have saved.
                self.graph_manager.save_checkpoint()
        except Stopped:
            if os.getpid() != parent:  # one of several workers
                raise SystemExit(0) from None
            print("stopped by SageMaker: the last checkpoint becomes the model")
        if self._flag("save_model"):
            self._export()
        sys.stdout.flush()

    def get_config_args(self, parser, arguments=None):
        """What Coach would read from its command line (`arguments`, from 1.0 on), from the hyperparameters."""
        options = parser.parse_args([])
        options.preset = self._preset(self._own.get("RLCOACH_PRESET") or self.default_preset_name())
        options.framework = Frameworks[coach_files.backend(os.environ, self._own)]
        options.num_workers = self._workers
        options.seed = self._own.get("seed")
        options.no_summary = True
        # Metric definitions look for `Training>` at the start of a line, where a colour's code would stand.
        logger.screen.set_use_colors(False)
        options.nocolor = True
        options.experiment_name = "experiment"
        options.experiment_path = self.experiment_path
        # What writes its logs beside them asks this module.
        logger.experiment_name, logger.experiment_path = options.experiment_name, options.experiment_path
        options.checkpoint_save_secs = int(self._own.get("checkpoint_save_secs", coach_files.CHECKPOINT_SECONDS))
        options.checkpoint_restore_dir = self._restore_from()
        for folder in (self.experiment_path, self.checkpoint_dir):
            os.makedirs(folder, exist_ok=True)
        options.checkpoint_save_dir = self.checkpoint_dir
        return options

    def run_graph_manager(self, graph_manager, args):
        """Train: with several workers of MXNet, which has none of its own in Coach, over Redis."""
        if self._workers == 1 or args.framework != Frameworks.mxnet:
            super().run_graph_manager(graph_manager, args)
            return
        from sagemaker_rl.coach import workers as coach_workers

        coach_workers.train(graph_manager, args, self._workers)

    def get_graph_manager_from_args(self, args):
        """The preset, with what the hyperparameters change."""
        self.graph_manager = super().get_graph_manager_from_args(args)
        settings = {
            name: value for name, value in self.job.hyperparameters.items() if name.startswith(hyperparameters.PREFIX)
        }
        self.apply_hyperparameter(settings)
        for name in sorted(self._others):
            self.map_hyperparameter(name, hyperparameters.typed(self._others[name]))
        return self.graph_manager

    def _flag(self, name):
        return str(self._own.get(name, 0)).lower() in hyperparameters.TRUE

    def _preset(self, name):
        """Coach's `file:variable` of a preset: a file of the job's code, or one of Coach's own presets."""
        path, _, variable = name.partition(":")
        for candidate in (path, path + ".py"):
            if os.path.isfile(candidate):
                return "{}:{}".format(os.path.abspath(candidate), variable or "graph_manager")
        presets = list_all_presets()
        if name.lower() not in [known.lower() for known in presets]:
            raise coach_files.CoachJobError(
                "preset {!r}: neither a file {}.py here nor one of Coach's{}".format(
                    name, path, hyperparameters.meant(name, presets)
                )
            )
        return self.expand_preset(name)

    def _restore_from(self):
        channel = self.job.channel("checkpoint")
        for folder in (self.checkpoint_dir, channel):
            found = coach_files.restorable(folder) if folder else None
            if found:
                print("training goes on from {}".format(found))
                return found
        return None

    def _export(self):
        copied = coach_files.export(self.checkpoint_dir, self.job.model)
        if not copied:
            print("no checkpoint was made, so there is no model")
            return
        backend = coach_files.backend(os.environ, self._own)
        try:
            written, reason = coach_export.export(self.graph_manager, backend, self.job.model)
        except Exception as error:  # noqa: BLE001 - whatever it is, hours of training are not lost for it
            written, reason = [], "the network is not exported: {}: {}".format(type(error).__name__, error)
        if reason:
            print(reason)
        print("model: {} in {}".format(", ".join(copied + written), self.job.model))


def _shown(value):
    if isinstance(value, core_types.StepMethod):
        return "{}({})".format(type(value).__name__, value.num_steps)
    return repr(value)


def _stop(number, frame):
    raise Stopped()
