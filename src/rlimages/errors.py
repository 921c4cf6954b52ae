"""Errors that stop a command. Each has one sentence for the user and a documented exit code."""


class FactoryError(Exception):
    """Something that stops the run: one sentence with its place and a remedy."""

    exit_code = 1


class ConfigError(FactoryError):
    """`build_matrix.yaml`, `targets.yaml` or `acceptance.yaml` cannot be read, or asks for what can't be.

    One line for each mistake.
    """

    exit_code = 2


class JobError(FactoryError):
    """A job or an endpoint that SageMaker would refuse, or whose files are not there."""

    exit_code = 2


class InvocationError(FactoryError):
    """A model server did not answer, or not in time."""


class UnreachableError(InvocationError):
    """A model server is not there, or hung up."""


class UsageError(FactoryError):
    """The command line asks for what cannot be: a region without images, an override that is no pattern."""

    exit_code = 2


class StaleError(FactoryError):
    """A recipe or lock on disk is not what the matrix and the templates give now."""

    exit_code = 3


class ToolError(FactoryError):
    """A program or the Docker engine is missing, too old or does not answer."""

    exit_code = 4


class SelectionError(FactoryError):
    """No cell was selected. A run that builds nothing must not look green."""

    exit_code = 5


class TemplateError(FactoryError):
    """A template cannot be rendered."""

    exit_code = 6


class RegistryError(FactoryError):
    """A registry refused, did not answer, or holds something else than was pushed."""

    exit_code = 7


class AcceptanceError(FactoryError):
    """An image that its target would refuse. One line for each rule that it breaks; nothing of it was pushed."""

    exit_code = 8


class Interrupted(FactoryError):
    """The run was stopped from outside by SIGINT or SIGTERM. 130 is what shells use for Ctrl-C."""

    exit_code = 130
