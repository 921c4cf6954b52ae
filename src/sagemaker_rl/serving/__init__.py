"""Define what the model server expects of a model: the interface of `ray.model`, `coach.model` and `vw.model`.

A module that serves a toolkit's models has one class, `Model`. Importing the module imports no toolkit; creating a
`Model` does.

    class Model:
        columns = ("action", "probability")   # the keys of a reply, in the order of a CSV row
        workers = None                        # default number of workers; None: one for each processor, at most 4

        def __init__(self, folder):           # /opt/ml/model, which is read-only
            ...                               # raises ModelError if there is no model that can be loaded

        def decide(self, observations):       # a list of 1 to 1000 observations
            ...                               # returns as many dictionaries; raises ValueError for a bad observation

An observation is a parsed JSON value: a number, list, dictionary or text. From CSV it is a list of numbers. A reply
is a dictionary with at least `action`, of JSON types only: no NaN and no arrays of a library. The messages of
ModelError and ValueError are for users: the first ends the server, the second is the body of a reply with status 400.
Any other exception is a fault of the model: it gives one line in the log and status 500, and the server continues.

Each worker has one `Model`, in a process that has nothing else, and sends it one request at a time. So a model needs no
locks and may crash. Its standard output is the log. When the server ends, so does the process, without destructors and
exit handlers.

Optional parts of a model:

    observation_keys = ()       # a JSON object with all of these keys is an observation, without its `request_type`; of
                                # any other object, the member `observation` is the observation

    def answer(self, request):  # takes an object whose `request_type` is not "observation"; returns the reply
        ...                     # raises ValueError for an unknown request

    def close(self):            # called when the server ends; it has 8 seconds
        ...

Run the server with such a module: `python -m sagemaker_rl.serving MODULE`.
"""


class ModelError(Exception):
    """The folder has no model, or none that this image can load. The message is one sentence for the user."""
