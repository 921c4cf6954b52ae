"""What RLlib itself says about an algorithm: its class, its settings, its stack. Asked in the launcher's process."""

from sagemaker_rl.ray import cluster as ray_cluster
from sagemaker_rl.ray import config as ray_config


def algorithm(name):
    """RLlib's class of that name, or None: Tune trains other things too."""
    try:
        from ray.tune.registry import get_trainable_cls

        found = get_trainable_cls(name)
    except Exception as error:  # noqa: BLE001 - Tune raises its own kinds; it will say the same when it starts
        print("{!r} is taken as it is: {}".format(name, error))
        return None
    return found if hasattr(found, "_default_config") or hasattr(found, "get_default_config") else None


def on_the_head(name, algorithm):
    """The algorithm, with one wish more: that its main process runs on the head, where checkpoints are kept."""
    from ray.tune import register_trainable

    def default_resource_request(cls, config):
        wanted = super(Pinned, cls).default_resource_request(config)
        if wanted is not None:
            bundles = getattr(wanted, "_bundles", None) or wanted.bundles
            bundles[0][ray_cluster.HEAD] = 0.01
        return wanted

    body = {"default_resource_request": classmethod(default_resource_request), "__module__": __name__}
    Pinned = type(algorithm.__name__, (algorithm,), body)
    register_trainable(name, Pinned)
    return name


def new_stack(default, config):
    """Whether RLlib's new API stack will run: RLlib's own default, unless the script says."""
    for word in ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2"):
        if word in config:
            return bool(config[word])
    return bool(getattr(default, "enable_rl_module_and_learner", False)) and bool(
        getattr(default, "enable_env_runner_and_connector_v2", False)
    )


def known(default):
    """The settings that a configuration object has. A renamed one that it only remembers has the value -1."""
    return {name for name, value in vars(default).items() if not (name in ray_config.RENAMED and value == -1)}
