"""What a model is to the server: the interface of `vw_model`, `ray_model` and `coach_model`, see docs/serving.md.

A module that serves a toolkit's models has one class. Importing the module imports no toolkit; making a `Model` does.

    class Model:
        columns = ("action", "probability")   # the keys of a reply, in the order of a CSV row
        workers = None                        # worker processes by default; None: one for each processor, at most 4

        def __init__(self, folder):           # /opt/ml/model, which is read-only
            ...                               # raises ModelError if no model is there, or none that can be loaded

        def decide(self, observations):       # a non-empty list, of at most 1000
            ...                               # a list of as many dictionaries; raises ValueError for a bad observation

An observation is what JSON gave: a number, a list, a dictionary, text; from CSV it is a list of numbers. A reply is a
dictionary with at least `action`, of what JSON knows: no NaN, no arrays of a library. What ModelError and ValueError
say is one sentence for the user: the first ends the server, the second is the text of a reply with status 400. Any
other exception is a fault of the model: one line in the log, status 500, and the server goes on.

Each worker has one `Model` in a process of its own, with nothing else in it, and asks it one thing at a time: a model
needs no locks and may crash. Its standard output is the log. The process ends when the server does, without destructors
and exit handlers.

A model may also have:

    observation_keys = ()       # an object of JSON with all of these keys is an observation itself, as it is but for
                                # `request_type`; one with `observation` among them, too

    def answer(self, request):  # an object whose `request_type` is not "observation"; the reply is what is returned
        ...                     # raises ValueError for a request that it does not know

    def close(self):            # the server ends; after 8 s it waits no longer
        ...
"""


class ModelError(Exception):
    """There is no model in the folder, or none that this image can load: one sentence for the user."""
