"""Export the network of a Coach agent, for programs that have no Coach.

With MXNet, these files are written to the model folder:

    network-symbol.json, network-0000.params   for `mxnet.gluon.SymbolBlock.imports`
    network.json                               names and shapes of the inputs, names of the outputs, bounds of actions
    filters.pkl                                Coach's filters of observations and actions, with their statistics
    model.onnx                                 the policy alone, where the package `onnx` is installed

With TensorFlow, it is a SavedModel in `model/tf-model/00000001`, the layout of TensorFlow Serving.
"""

import contextlib
import json
import os
import pickle

NETWORK, FILTERS, DESCRIPTION = "network", "filters.pkl", "network.json"
SAVED_MODEL = os.path.join("model", "tf-model", "00000001")
# The version of ONNX operators that MXNet's exporter writes:
# https://github.com/apache/mxnet/tree/1.3.0/python/mxnet/contrib/onnx
OPSET = 8

# The outputs of each head of Coach's MXNet networks, by the name of its class.
HEADS = {"QHead": ["q_values"], "VHead": ["value"], "PPOVHead": ["value"]}


def export(graph_manager, framework, model):
    """Export the network of the agent in `graph_manager` to the folder `model`.

    `framework` is `mxnet` or `tensorflow`. Returns (names, reason): the names of what was written, relative to `model`,
    and a sentence why something is missing, or an empty string. Only a graph of one agent is exported.
    """
    agents = [agent for level in graph_manager.level_managers for agent in level.agents.values()]
    if len(agents) != 1 or "main" not in getattr(agents[0], "networks", {}):
        return [], "only a graph of one agent with a network called main is exported; the checkpoint is complete"
    if framework == "mxnet":
        return _mxnet(agents[0], graph_manager.environments[0], model)
    return _tensorflow(agents[0].networks["main"].online_network, graph_manager.sess, model)


def _mxnet(agent, environment, model):
    network = agent.networks["main"].online_network
    outputs = []
    for head in network.output_heads:
        kind = type(head).__name__
        if kind == "PPOHead":
            discrete = type(agent.spaces.action).__name__ == "DiscreteActionSpace"
            outputs += ["action_probs"] if discrete else ["action", "deviation"]
        elif kind in HEADS:
            outputs += HEADS[kind]
        else:
            return [], "a network with the head {} is not exported; the checkpoint is complete".format(kind)
    network.model.export(os.path.join(model, NETWORK), epoch=0)
    names = [embedder.embedder_name for embedder in network.model.nets[0].input_embedders]
    spaces = environment.state_space.sub_spaces
    actions = agent.spaces.action
    description = {
        "inputs": [{"name": name, "shape": [int(size) for size in spaces[name].shape]} for name in names],
        "outputs": outputs,
    }
    if "action" in outputs:
        description["low"], description["high"] = actions.low.tolist(), actions.high.tolist()
    with open(os.path.join(model, DESCRIPTION), "w") as stream:
        json.dump(description, stream, indent=2)
        stream.write("\n")
    with open(os.path.join(model, FILTERS), "wb") as stream:
        pickle.dump(_frozen(agent), stream, protocol=2)
    written = [NETWORK + "-symbol.json", NETWORK + "-0000.params", DESCRIPTION, FILTERS]
    if has_onnx():
        policy = next(number for number, name in enumerate(outputs) if name != "value")
        try:
            _onnx(network, policy, os.path.join(model, "model.onnx"))
        except Exception as error:  # noqa: BLE001 - an unknown operator; the other files are complete
            return written, "no model.onnx: {}: {}".format(type(error).__name__, error)
        written.append("model.onnx")
    return written, ""


def _frozen(agent):
    """Return the filters of `agent` as a dictionary that can be pickled, with the keys `input`, `before` and `output`.

    The agent's own filters are changed: they lose their connections to Redis, over which the filters of several workers
    share their statistics, and their filters of rewards.
    """
    agent_filters = {"input": agent.input_filter, "before": agent.pre_network_filter, "output": agent.output_filter}
    for name in ("input", "before"):
        for filters in agent_filters[name].observation_filters.values():
            for observation_filter in filters.values():
                if getattr(observation_filter, "running_observation_stats", None) is not None:
                    observation_filter.running_observation_stats.pubsub = None
        agent_filters[name].reward_filters = type(agent_filters[name].reward_filters)()
    return agent_filters


def has_onnx():
    """Return whether the package `onnx` can be imported in this image."""
    try:
        from onnx import checker  # noqa: F401
    except ImportError:
        return False
    return True


def _onnx(network, number, path):
    """Write the output with the index `number` of `network` as an ONNX file to `path`, and check the file.

    MXNet's exporter writes operators of version OPSET, but has them checked against the newest version that `onnx`
    knows. So the check is replaced during the export, and the version is corrected in the file.
    """
    import numpy
    import onnx
    from mxnet.contrib import onnx as exporter
    from rl_coach.architectures.mxnet_components.savers import OnnxSaver

    shapes = network._model_input_shapes()
    symbol = OnnxSaver._get_onnx_sym(network.model, len(shapes))[number]
    inputs = set(symbol.list_inputs())
    params = {name: parameter._reduce() for name, parameter in network.model.collect_params().items() if name in inputs}
    with _checked_as(OPSET):
        exporter.export_model(symbol, params, shapes, numpy.float32, path)
    exported = onnx.load(path)
    exported.opset_import[0].version, exported.ir_version = OPSET, 3
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


@contextlib.contextmanager
def _checked_as(opset):
    """Make `onnx` check graphs against the operators of version `opset` while the block runs."""
    from onnx import checker

    context = checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 3, {"": opset}
    check = checker.check_graph
    checker.check_graph = lambda graph: check(graph, context)
    try:
        yield
    finally:
        checker.check_graph = check


def _tensorflow(network, session, model):
    """Write `network`, with the variables of `session`, as a SavedModel of TensorFlow 1 below the folder `model`.

    The inputs are named after the network's embedders, the outputs `output_0`, `output_1` and so on in the order of the
    heads. Returns (names, reason) as `export` does.
    """
    import tensorflow as tf

    target = os.path.join(model, SAVED_MODEL)
    inputs = {
        name: tf.saved_model.utils.build_tensor_info(tensor)
        for name, tensor in network.inputs.items()
        if not name.startswith("output_")
    }
    outputs = {
        "output_{}".format(number): tf.saved_model.utils.build_tensor_info(tensor)
        for number, tensor in enumerate(network.outputs)
    }
    signature = tf.saved_model.signature_def_utils.build_signature_def(
        inputs=inputs, outputs=outputs, method_name=tf.saved_model.signature_constants.PREDICT_METHOD_NAME
    )
    builder = tf.saved_model.builder.SavedModelBuilder(target)
    builder.add_meta_graph_and_variables(
        session,
        [tf.saved_model.tag_constants.SERVING],
        signature_def_map={tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
    )
    builder.save()
    return [SAVED_MODEL], ""
