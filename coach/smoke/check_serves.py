"""Check that a trained model decides the same in `sagemaker_rl.coach.model`, over HTTP, and in Coach itself.

The exported network must also run with MXNet alone, and as ONNX if the image has the package `onnx`.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

NUMBER, SECONDS, NEAR = 20, 120, 1e-5
SERVE = "/usr/local/lib/rlimages/serve"

SCRIPT = """
from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher

class Launcher(SageMakerCoachPresetLauncher):
    def default_preset_name(self):
        return "CartPole_ClippedPPO"

if __name__ == "__main__":
    Launcher.train_main()
"""


def run(words, folder):
    """Run a program. If it fails, print its output and raise SystemExit."""
    asked = {
        "save_model": 1,
        "seed": 1,
        "rl.improve_steps:EnvironmentEpisodes": 10,
        "rl.evaluation_steps:EnvironmentEpisodes": 1,
    }
    ended = subprocess.run(
        [sys.executable] + words,
        cwd=folder,
        env=dict(os.environ, SAGEMAKER_BASE_DIR=folder, SM_HPS=json.dumps(asked), HOME=folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=SECONDS,
    )
    if ended.returncode:
        print(ended.stdout)
        print("{} ended with {}".format(" ".join(words), ended.returncode))
        sys.exit(1)


def theirs(folder):
    """Return observations, and for each the action of Coach's own agent and its probability."""
    import numpy
    from rl_coach.base_parameters import TaskParameters
    from rl_coach.core_types import EnvResponse, RunPhase

    from sagemaker_rl.coach_launcher import SageMakerCoachPresetLauncher

    agents = []

    class Launcher(SageMakerCoachPresetLauncher):
        def default_preset_name(self):
            return "CartPole_ClippedPPO"

        def run_graph_manager(self, graph_manager, options):
            graph_manager.create_graph(
                TaskParameters(
                    framework_type=options.framework,
                    experiment_path=options.experiment_path,
                    checkpoint_restore_dir=os.path.join(folder, "model", "checkpoint"),
                )
            )
            agents.extend(graph_manager.level_managers[0].agents.values())
            graph_manager.save_checkpoint = lambda: None

        def _export(self):
            """Export nothing: the first job has exported the model."""

    Launcher().launch()
    agent = agents[0]
    agent.phase = RunPhase.TEST
    seen = [[float(value) for value in numpy.random.uniform(-0.2, 0.2, 4)] for _ in range(NUMBER)]
    answers = []
    for one in seen:
        state = {"observation": numpy.array(one)}
        for filters in (agent.input_filter, agent.pre_network_filter):
            response = EnvResponse(next_state=state, reward=0, game_over=False)
            # As in serving: the observation does not change the filter's statistics.
            state = filters.filter(response, update_internal_state=False)[0].next_state
        chosen = agent.choose_action(state)
        answers.append([int(chosen.action), float(chosen.action_probability)])
    return seen, answers


def mine(folder):
    """Return the replies of `sagemaker_rl.coach.model`; check that bad observations raise ValueError."""
    from sagemaker_rl.coach.model import Model

    with open(os.path.join(folder, "theirs.json")) as stream:
        seen = json.load(stream)[0]
    model = Model(os.path.join(folder, "model"))
    for bad in (None, "text", [1.0], {"a": 1}, [float("nan")] * 4):
        try:
            model.decide([bad])
        except ValueError:
            continue
        raise SystemExit("{!r} is not an observation, but the model accepted it".format(bad))
    return model.decide(seen)


def alone(folder):
    """Run the exported network without Coach. Return the probabilities for zeros: MXNet's, and ONNX's if installed."""
    import mxnet

    model = os.path.join(folder, "model")
    prefix = os.path.join(model, "network")
    block = mxnet.gluon.SymbolBlock.imports(prefix + "-symbol.json", ["data"], prefix + "-0000.params")
    zeros = mxnet.nd.zeros((1, 4))
    found = [block(zeros)[1].asnumpy().ravel().tolist()]
    if importlib.util.find_spec("onnx"):
        from mxnet.contrib import onnx

        symbol, arguments, _ = onnx.import_model(os.path.join(model, "model.onnx"))
        bound = symbol.bind(mxnet.cpu(), dict(arguments, Data0=zeros))
        found.append(bound.forward()[0].asnumpy().ravel().tolist())
    return found


def over_http(folder, seen):
    """Return the replies of the image's server, or None if the image has none."""
    if not os.path.exists(SERVE):
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(
        os.environ,
        SAGEMAKER_BASE_DIR=folder,
        SM_MODEL_DIR=os.path.join(folder, "model"),
        SAGEMAKER_BIND_TO_PORT=str(port),
    )
    server = subprocess.Popen([SERVE], env=environment)
    try:
        address, deadline = "http://127.0.0.1:{}".format(port), time.time() + SECONDS
        while True:
            try:
                urllib.request.urlopen(address + "/ping", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.time() > deadline:
                    raise SystemExit("the server did not answer /ping") from None
                time.sleep(0.2)
        lines = "\n".join(json.dumps(one) for one in seen).encode()
        words = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}
        with urllib.request.urlopen(urllib.request.Request(address + "/invocations", lines, words), timeout=60) as said:
            return [json.loads(line) for line in said.read().decode().strip().split("\n")]
    finally:
        server.terminate()
        server.wait()


def main():
    with open("/checks/cell.json") as stream:
        if json.load(stream)["framework"]["name"] != "mxnet":
            print("models on TensorFlow are for TensorFlow Serving")
            return 77
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "train.py")
        with open(script, "w") as stream:
            stream.write(SCRIPT)
        run([script], folder)
        answers = {}
        for name in ("theirs", "mine", "alone"):
            run([os.path.abspath(__file__), name, folder], folder)
            with open(os.path.join(folder, name + ".json")) as stream:
                answers[name] = json.load(stream)
        seen, expected = answers["theirs"]
        replies = [("coach_model", answers["mine"])]
        served = over_http(folder, seen)
        if served is not None:
            replies.append(("over HTTP", served))
        apart = 0.0
        for where, found in replies:
            for reply, (action, probability) in zip(found, expected):
                if reply["action"] != action:
                    print("{}: action {}, but Coach takes {}".format(where, reply["action"], action))
                    return 1
                apart = max(apart, abs(reply["action_prob"] - probability))
        forms = answers["alone"]
        apart = max([apart] + [abs(one - other) for form in forms[1:] for one, other in zip(form, forms[0])])
    said = [where for where, _ in replies] + ["MXNet alone"] + ["ONNX"] * (len(forms) - 1)
    print(
        "{} actions equal Coach's, probabilities differ by at most {:.1g}: {}".format(len(seen), apart, ", ".join(said))
    )
    return 0 if apart <= NEAR else 1


def write(folder, name):
    """Call the function of that name and write its result as JSON to a file of that name."""
    answer = {"theirs": theirs, "mine": mine, "alone": alone}[name](folder)
    with open(os.path.join(folder, name + ".json"), "w") as stream:
        json.dump(answer, stream)
    return 0


if __name__ == "__main__":
    sys.exit(write(sys.argv[2], sys.argv[1]) if len(sys.argv) == 3 else main())
