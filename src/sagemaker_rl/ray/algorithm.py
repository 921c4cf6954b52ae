"""Ask RLlib about an algorithm: its class, its settings and its API stack. Runs in the launcher's process."""

from sagemaker_rl.ray import cluster as ray_cluster
from sagemaker_rl.ray import config as ray_config


def find_algorithm(name):
    """Return RLlib's class of the algorithm `name`, or None: Tune can also train things that are not RLlib's."""
    try:
        from ray.tune.registry import get_trainable_cls

        trainable = get_trainable_cls(name)
    except Exception as error:  # noqa: BLE001 - Tune raises several kinds, and again when it starts
        print("{!r} is passed to Tune unchanged: {}".format(name, error))
        return None
    return trainable if hasattr(trainable, "_default_config") or hasattr(trainable, "get_default_config") else None


def pin_to_head(name, algorithm):
    """Register a subclass of the class `algorithm` whose main process must run on the head, where checkpoints are kept.

    It is registered with Tune as `name`, which is returned.
    """
    from ray.tune import register_trainable

    def default_resource_request(cls, config):
        request = super(Pinned, cls).default_resource_request(config)
        if request is not None:
            bundles = getattr(request, "_bundles", None) or request.bundles
            bundles[0][ray_cluster.HEAD] = 0.01
        return request

    body = {"default_resource_request": classmethod(default_resource_request), "__module__": __name__}
    Pinned = type(algorithm.__name__, (algorithm,), body)
    register_trainable(name, Pinned)
    return name


def new_stack(default, config):
    """Return whether RLlib uses its new API stack: as the script's `config` says, else as `default` does.

    `default` is the algorithm's default configuration object.
    """
    for word in ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2"):
        if word in config:
            return bool(config[word])
    return bool(getattr(default, "enable_rl_module_and_learner", False)) and bool(
        getattr(default, "enable_env_runner_and_connector_v2", False)
    )


def known_settings(default):
    """Return the set of the names of the settings of `default`, an algorithm's default configuration object.

    RLlib keeps some renamed settings with the value -1; these are left out.
    """
    return {name for name, value in vars(default).items() if not (name in ray_config.RENAMED and value == -1)}
