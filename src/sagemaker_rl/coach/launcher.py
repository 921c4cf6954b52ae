"""Train with RL Coach. A script names its preset, and hyperparameters change it; the launcher does the rest.

    class Launcher(SageMakerCoachPresetLauncher):
        def default_preset_name(self):
            return "preset-cartpole-clippedppo"      # preset-cartpole-clippedppo.py beside the script

        def map_hyperparameter(self, name, value):
            if name == "learning_rate":
                return self.apply_hyperparameter({"rl.agent_params.network_wrappers.main.learning_rate": value})
            return super().map_hyperparameter(name, value)

    if __name__ == "__main__":
        Launcher.train_main()

A preset is a Python file with a `graph_manager`, in the job's own code or one of Coach's (`CartPole_ClippedPPO`).
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
    """The job received SIGTERM, with which SageMaker stops a job."""


def _steps(name):
    kind = getattr(core_types, name)
    return lambda value: kind(int(float(value)))


TYPES = {name: _steps(name) for name in coach_files.STEPS if hasattr(core_types, name)}


class SageMakerCoachPresetLauncher(CoachLauncher):
    """A training job of Coach: a preset that the job's hyperparameters change.

    Scripts override `default_preset_name`, and `map_hyperparameter` for hyperparameters of their own.
    """

    def __init__(self):
        self.job = Job()
        self.num_cpus, self.num_gpus, self.host_name = self.job.num_cpus, self.job.num_gpus, self.job.host
        self.experiment_path = self.job.intermediate
        self.checkpoint_dir = os.path.join(self.job.checkpoints, "coach")
        if self.job.checkpoints == self.job.intermediate:
            self.checkpoint_dir = os.path.join(self.job.output, "checkpoint")
        self._launcher_hyperparameters, self._other_hyperparameters = coach_files.split_hyperparameters(
            self.job.hyperparameters
        )
        self._workers = int(self._launcher_hyperparameters.get("num_workers", 1))

    def default_preset_name(self):
        """Return the name of the preset to use if the hyperparameter RLCOACH_PRESET is not set. Scripts override this.

        The name is that of a Python file without `.py`, or of one of Coach's presets. Raises CoachJobError if a script
        does not override this and sets no RLCOACH_PRESET.
        """
        raise coach_files.CoachJobError(
            "name a preset: the hyperparameter RLCOACH_PRESET, or {}.default_preset_name()".format(type(self).__name__)
        )

    def map_hyperparameter(self, name, value):
        """Apply the hyperparameter `name`, which the launcher does not know, with its parsed `value` to the preset.

        Called for each name that does not begin with `rl.`. Scripts override this for hyperparameters of their own;
        without an override, it raises CoachJobError for any name.
        """
        raise coach_files.CoachJobError(
            "hyperparameter {!r}: neither one of the launcher's ({}) nor mapped by the script".format(
                name, ", ".join(coach_files.LAUNCHER_HYPERPARAMETERS)
            )
        )

    def apply_hyperparameter(self, settings):
        """Change the preset by `settings`, such as {"rl.agent_params.algorithm.discount": 0.9}, and print each change.

        Raises HyperparameterError for a name that leads to no setting of the preset.
        """
        for name, path, value in hyperparameters.overrides(settings, TYPES):
            hyperparameters.set_value(self.graph_manager, name, path, value)
            print("{} = {}".format(name, _describe(value)))

    @classmethod
    def train_main(cls, *arguments, **named):
        """Create the launcher with `arguments` and `named`, and train. A script needs only this call.

        An exception is written to the job's failure file and raised again.
        """
        launcher = cls(*arguments, **named)
        with launcher.job.reasons():
            launcher.launch()

    def launch(self):
        """Train the preset; then, if the hyperparameter `save_model` is true, export the last checkpoint as the model.

        SIGTERM ends the training early, and the last checkpoint is exported as well.
        """
        signal.signal(signal.SIGTERM, _stop)
        parent = os.getpid()
        try:
            super().launch()
            if self._workers == 1:
                # Coach saves after each interval only, so the end of the training would be lost. With several workers,
                # the learner has saved it.
                self.graph_manager.save_checkpoint()
        except Stopped:
            if os.getpid() != parent:  # this is a forked worker: only the parent exports
                raise SystemExit(0) from None
            print("stopped by SageMaker: the last checkpoint becomes the model")
        if self._flag("save_model"):
            self._export()
        sys.stdout.flush()

    def get_config_args(self, parser, arguments=None):
        """Return Coach's command line options: the defaults of `parser` with the values that the hyperparameters give.

        Creates the folders of the experiment and of its checkpoints. `arguments` has no effect; Coach 1.0 passes it.
        """
        options = parser.parse_args([])
        options.preset = self._preset(
            self._launcher_hyperparameters.get("RLCOACH_PRESET") or self.default_preset_name()
        )
        options.framework = Frameworks[coach_files.backend(os.environ, self._launcher_hyperparameters)]
        options.num_workers = self._workers
        options.seed = self._launcher_hyperparameters.get("seed")
        options.no_summary = True
        # Metric definitions expect `Training>` at the start of a line; a colour code would come before it.
        logger.screen.set_use_colors(False)
        options.nocolor = True
        options.experiment_name = "experiment"
        options.experiment_path = self.experiment_path
        # Parts of Coach that write logs read the folder from this module.
        logger.experiment_name, logger.experiment_path = options.experiment_name, options.experiment_path
        options.checkpoint_save_secs = int(
            self._launcher_hyperparameters.get("checkpoint_save_secs", coach_files.CHECKPOINT_SECONDS)
        )
        options.checkpoint_restore_dir = self._restore_from()
        for folder in (self.experiment_path, self.checkpoint_dir):
            os.makedirs(folder, exist_ok=True)
        options.checkpoint_save_dir = self.checkpoint_dir
        return options

    def run_graph_manager(self, graph_manager, args):
        """Train `graph_manager`, the preset, with Coach's command line options `args`.

        Coach has no workers of its own for MXNet, so several of them are started by sagemaker_rl.coach.workers.
        """
        if self._workers == 1 or args.framework != Frameworks.mxnet:
            super().run_graph_manager(graph_manager, args)
            return
        from sagemaker_rl.coach import workers as coach_workers

        coach_workers.train(graph_manager, args, self._workers)

    def get_graph_manager_from_args(self, args):
        """Return the graph manager of the preset in Coach's options `args`, changed by the job's hyperparameters.

        Raises HyperparameterError or CoachJobError for a hyperparameter that cannot be applied.
        """
        self.graph_manager = super().get_graph_manager_from_args(args)
        settings = {
            name: value for name, value in self.job.hyperparameters.items() if name.startswith(hyperparameters.PREFIX)
        }
        self.apply_hyperparameter(settings)
        for name in sorted(self._other_hyperparameters):
            self.map_hyperparameter(name, hyperparameters.parse_value(self._other_hyperparameters[name]))
        return self.graph_manager

    def _flag(self, name):
        return str(self._launcher_hyperparameters.get(name, 0)).lower() in hyperparameters.TRUE

    def _preset(self, name):
        """Return `file:variable`, as Coach's option takes it, of the preset `name`.

        `name` is a Python file in the job's code, with or without `.py` and `:variable` (default: `graph_manager`), or
        one of Coach's own presets. Raises CoachJobError if it is neither.
        """
        path, _, variable = name.partition(":")
        for candidate in (path, path + ".py"):
            if os.path.isfile(candidate):
                return "{}:{}".format(os.path.abspath(candidate), variable or "graph_manager")
        presets = list_all_presets()
        if name.lower() not in [known.lower() for known in presets]:
            raise coach_files.CoachJobError(
                "preset {!r}: neither a file {}.py here nor one of Coach's{}".format(
                    name, path, hyperparameters.suggestion(name, presets)
                )
            )
        return self.expand_preset(name)

    def _restore_from(self):
        channel = self.job.channel("checkpoint")
        for folder in (self.checkpoint_dir, channel):
            checkpoint = coach_files.find_restorable(folder) if folder else None
            if checkpoint:
                print("training continues from {}".format(checkpoint))
                return checkpoint
        return None

    def _export(self):
        copied = coach_files.export(self.checkpoint_dir, self.job.model)
        if not copied:
            print("no checkpoint was made, so there is no model")
            return
        backend = coach_files.backend(os.environ, self._launcher_hyperparameters)
        try:
            written, reason = coach_export.export(self.graph_manager, backend, self.job.model)
        except Exception as error:  # noqa: BLE001 - a failed export must not fail the training
            written, reason = [], "the network is not exported: {}: {}".format(type(error).__name__, error)
        if reason:
            print(reason)
        print("model: {} in {}".format(", ".join(copied + written), self.job.model))


def _describe(value):
    if isinstance(value, core_types.StepMethod):
        return "{}({})".format(type(value).__name__, value.num_steps)
    return repr(value)


def _stop(number, frame):
    raise Stopped()
