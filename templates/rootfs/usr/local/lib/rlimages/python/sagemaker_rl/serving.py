"""What the model server and the toolkits' models agree on."""


class ModelError(Exception):
    """What is in the model folder cannot be served, and why: one sentence."""
