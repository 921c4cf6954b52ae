"""The process of one model: it loads the model, then answers what comes over a socket, one thing at a time.

    python -m sagemaker_rl.serving.worker MODULE FOLDER DESCRIPTOR

First it says ("ready", facts) or ("unloadable", sentence). Then it gets (number, verb, value) and sends (number,
outcome, value). Verbs are `ping`; `decide`, with a list of observations, whose reply is a list of JSON texts; `answer`,
with one request, whose reply is such a list too. An outcome is "ok", "bad" (the request is at fault) or "failed" (the
model is), both with a sentence. It ends when the other end is gone.

This is a program of its own, not a fork: toolkits and their threads survive no fork.
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


def one_line(error):
    """`KeyError: 'a' (policy.py:12)`: an exception, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = " ({}:{})".format(os.path.basename(place[0][0]), place[0][1]) if place else ""
    return "{}: {}{}".format(type(error).__name__, " ".join(str(error).split())[:500], where)


def load(module, folder):
    """The model of a folder. Raises ModelError, whatever went wrong."""
    try:
        adapter = importlib.import_module(module)
    except ImportError as error:
        raise ModelError("this image cannot serve with {}: {}".format(module, error)) from error
    try:
        return adapter.Model(folder)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001
        raise ModelError("the model in {} cannot be loaded: {}".format(folder, one_line(error))) from error


def reply(model, verb, value):
    """The outcome and the value of one reply. Whatever the model does wrong is an outcome."""
    try:
        if verb == "ping":
            return "ok", None
        if verb == "answer":
            return "ok", [json.dumps(model.answer(value), allow_nan=False)]
        decisions = list(model.decide(value))
    except ValueError as error:
        return "bad", " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001
        return "failed", one_line(error)
    if len(decisions) != len(value):
        return "failed", "it gave {} replies to {} observations".format(len(decisions), len(value))
    try:
        return "ok", [json.dumps(decision, allow_nan=False) for decision in decisions]
    except (TypeError, ValueError) as error:
        return "failed", "its reply is no JSON: {}".format(error)


def leave():
    """End without destructors and exit handlers: a toolkit's may hang or complain, and nothing is left to save."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(module, folder, descriptor):
    # The server ends this process by closing the socket; the container's signals are not for it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    model = None
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=int(descriptor)))
    try:
        try:
            model = load(module, folder)
        except ModelError as error:
            channel.send(("unloadable", str(error)))
            leave()  # here, where `error` keeps what is half loaded
        facts = {
            "columns": tuple(model.columns),
            "keys": tuple(getattr(model, "observation_keys", ())),
            "answers": hasattr(model, "answer"),
        }
        channel.send(("ready", facts))
        while True:
            number, verb, value = channel.receive()
            channel.send((number,) + reply(model, verb, value))
    except (EOFError, OSError):  # the server is gone
        if hasattr(model, "close"):
            model.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
