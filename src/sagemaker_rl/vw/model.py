"""Serve a contextual bandit of Vowpal Wabbit: the `vw.model` and `vw.metadata` that sagemaker_rl.vw.launcher writes.

{"observation": [0.1, 2.0]}  ->  {"action": 3, "action_prob": 0.925, "event_id": ..., "timestamp": ..., ...}
"""

import os
import random
import time
import uuid

from sagemaker_rl.serving import ModelError
from sagemaker_rl.vw import log as vw_log
from sagemaker_rl.vw import policy as vw_policy

CLOSE_SECONDS = 5  # seconds to send the rest of the log; the server waits 8 seconds


class Model:
    """A policy that draws an action by its probability for each observation, and may log each decision.

    It is loaded from `folder` and has the interface that sagemaker_rl.serving describes. Creating it raises ModelError
    if `folder` has no usable model or the log cannot be written.
    """

    workers = None

    def __init__(self, folder):
        self._policy = vw_policy.load(folder)
        self.columns = self._policy.columns + ("event_id", "timestamp", "sample_prob", "model_id")
        self.observation_keys = self._policy.keys
        self._id = os.environ.get("MODEL_ID", "default_model")
        self._random = random.SystemRandom()
        try:
            self._log = vw_log.from_environment(os.environ)
        except vw_log.LogError as error:
            raise ModelError(str(error)) from None

    def decide(self, observations):
        """Return a list with one reply, a dictionary, for each of `observations`, and log the decisions.

        Raises ValueError for an observation that the policy cannot decide on.
        """
        decisions = [self._policy.decide(observation, self._random) for observation in observations]
        replies = [self._reply(decision) for decision in decisions]
        if self._log:
            for place, reply in enumerate(replies):
                self._log.add(dict(reply, type="actions", **self._policy.record(observations[place])))
        return replies

    def _reply(self, decision):
        return dict(
            decision,
            event_id=uuid.uuid1().int,
            timestamp=int(time.time()),
            sample_prob=self._random.random(),
            model_id=self._id,
        )

    def answer(self, request):
        """Return the reply to `request`, a dictionary whose `request_type` is `reward` or `model_id`.

        A reward is logged, and its reply says whether that succeeded; the other reply has the model's name. Raises
        ValueError for any other request.
        """
        kind = request["request_type"].lower()
        if kind == "model_id":
            return {"model_id": self._id, "soft_model_update_status": "none"}
        if kind != "reward":
            raise ValueError("request_type is {!r}, not one of observation, reward, model_id".format(kind[:80]))
        record = {"type": "rewards"}
        for name in ("event_id", "reward"):
            value = record[name] = request.get(name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError("a reward has numbers event_id and reward; {} is {!r}".format(name, value))
        return {"status": "success" if self._log and self._log.add(record) else "failure"}

    def close(self):
        """Send the rest of the log, for about CLOSE_SECONDS."""
        if self._log:
            self._log.close(CLOSE_SECONDS)
