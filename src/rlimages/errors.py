"""The errors that stop a command. Each has a message for the user and a documented exit code."""

from collections.abc import Iterable


class FactoryError(Exception):
    """An error that stops a command. Its text is one sentence: where, what, and how to fix it."""

    exit_code = 1


class ConfigError(FactoryError):
    """One or more mistakes in a file that people write. The text has one line for each mistake.

    These files are `build_matrix.yaml`, `targets.yaml`, `acceptance.yaml`, files of waivers, files of base overrides,
    and `build_matrix.lock.yaml`, which is committed and may be edited.
    """

    exit_code = 2


class JobError(FactoryError):
    """A training job, transform job or endpoint that SageMaker would refuse, or that needs files that do not exist."""

    exit_code = 2


class InvocationError(FactoryError):
    """A request to a model server that got no answer, or no complete answer within the time limit."""


class UnreachableError(InvocationError):
    """A request to a model server at whose address nothing listens, or that closed the connection."""


class UsageError(FactoryError):
    """An argument whose value is well-formed but cannot be used: an unknown region, an invalid pattern."""

    exit_code = 2


class StaleError(FactoryError):
    """A generated file (Dockerfile, lock) that differs from what the build matrix and the templates give now."""

    exit_code = 3


class ToolError(FactoryError):
    """A program, or the Docker engine, that is missing, too old or does not answer."""

    exit_code = 4


class SelectionError(FactoryError):
    """A selection that matches no cell or image: a run that builds nothing must not count as passed."""

    exit_code = 5


class TemplateError(FactoryError):
    """A Dockerfile template that cannot be rendered."""

    exit_code = 6


class RegistryError(FactoryError):
    """A registry that refused a request, did not answer, or has other content than was pushed."""

    exit_code = 7


class AcceptanceError(FactoryError):
    """Images that break acceptance rules. The text has one line for each broken rule; nothing was pushed."""

    exit_code = 8


class Interrupted(FactoryError):
    """The end of a command that SIGINT or SIGTERM stopped."""

    exit_code = 130  # 128 + SIGINT: the status that shells report for Ctrl-C


def did_you_mean(name: str, known_names: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean 'x'?`, where x is the one of `known_names` that is most similar to the unknown `name`.

    Return an empty string if none has a similarity of at least `cutoff` (from 0 to 1; 0.6 is the default of `difflib`).
    """
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known_names), n=1, cutoff=cutoff)
    return f"; did you mean '{matches[0]}'?" if matches else ""
