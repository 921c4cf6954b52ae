"""Load one model and answer requests that come over a socket: the program of the model's process.

    python -m sagemaker_rl.serving.worker MODULE FOLDER DESCRIPTOR

It first sends ("ready", facts) or ("unloadable", sentence). Then it receives (number, verb, value) and sends (number,
outcome, value). The verbs are `ping`; `decide` with a list of observations; and `answer` with one request. The last
two are answered with a list of JSON texts. The outcome is "ok", "bad" (the request is wrong) or "failed" (the model
failed); the last two come with a sentence. The program ends when the other end of the socket is closed.

It is a program of its own and not a fork of the server, because toolkits and their threads do not survive a fork.
"""

import importlib
import json
import os
import signal
import socket
import sys
import traceback

from sagemaker_rl.serving import ModelError
from sagemaker_rl.serving.channel import Channel


def summary(error):
    """Return `error`, an exception, and the place where it was raised in one line: `KeyError: 'a' (policy.py:12)`."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = " ({}:{})".format(os.path.basename(place[0][0]), place[0][1]) if place else ""
    return "{}: {}{}".format(type(error).__name__, " ".join(str(error).split())[:500], where)


def load(module, folder):
    """Return an instance of the class Model of the module named `module`, made from the folder `folder`.

    Raises ModelError if the module cannot be imported or the model cannot be loaded.
    """
    try:
        adapter = importlib.import_module(module)
    except ImportError as error:
        raise ModelError("this image cannot serve with {}: {}".format(module, error)) from error
    try:
        return adapter.Model(folder)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001
        raise ModelError("the model in {} cannot be loaded: {}".format(folder, summary(error))) from error


def reply(model, verb, value):
    """Return (outcome, value), the answer of `model` to one request of `verb` and `value`.

    The docstring of this module describes them. An exception of the model becomes an outcome, and its message the
    value.
    """
    try:
        if verb == "ping":
            return "ok", None
        if verb == "answer":
            return "ok", [json.dumps(model.answer(value), allow_nan=False)]
        decisions = list(model.decide(value))
    except ValueError as error:
        return "bad", " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001
        return "failed", summary(error)
    if len(decisions) != len(value):
        return "failed", "it gave {} replies to {} observations".format(len(decisions), len(value))
    try:
        return "ok", [json.dumps(decision, allow_nan=False) for decision in decisions]
    except (TypeError, ValueError) as error:
        return "failed", "its reply is not valid JSON: {}".format(error)


def exit_now():
    """End the process without destructors and exit handlers: a toolkit's may hang, and there is nothing to save."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(module, folder, descriptor):
    """Load the model and answer requests until the server closes the socket.

    `module` is the name of the module with the class Model, `folder` the model's folder, and `descriptor` the number of
    the open socket, as text.
    """
    # The server ends this process by closing the socket, after requests are served. A signal to the container must
    # not end it earlier.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    model = None
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=int(descriptor)))
    try:
        try:
            model = load(module, folder)
        except ModelError as error:
            channel.send(("unloadable", str(error)))
            exit_now()  # inside the except block: `error` keeps the half-loaded model alive, so no destructor runs
        facts = {
            "columns": tuple(model.columns),
            "keys": tuple(getattr(model, "observation_keys", ())),
            "answers": hasattr(model, "answer"),
        }
        channel.send(("ready", facts))
        while True:
            number, verb, value = channel.receive()
            channel.send((number,) + reply(model, verb, value))
    except (EOFError, OSError):  # the server has ended
        if hasattr(model, "close"):
            model.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
    exit_now()
