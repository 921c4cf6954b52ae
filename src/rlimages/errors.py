"""The errors that stop a command. Each has a message for the user and a documented exit code."""

from collections.abc import Iterable


class FactoryError(Exception):
    """An error that stops a command. Its text is one sentence: where, what, and how to fix it."""

    exit_code = 1


class ConfigError(FactoryError):
    """A mistake in a file that people write. The text has one line for each mistake.

    These files are `build_matrix.yaml`, `targets.yaml`, `acceptance.yaml`, files of waivers, files of base overrides,
    and `build_matrix.lock.yaml`, which is committed and may be edited.
    """

    exit_code = 2


class JobError(FactoryError):
    """A training job, transform job or endpoint that SageMaker would refuse, or whose files do not exist."""

    exit_code = 2


class InvocationError(FactoryError):
    """A model server sent no answer, or no complete answer within the time limit."""


class UnreachableError(InvocationError):
    """No model server listens at the address, or it closed the connection."""


class UsageError(FactoryError):
    """An argument that is well-formed for the parser but cannot be met: an unknown region, an invalid pattern."""

    exit_code = 2


class StaleError(FactoryError):
    """A Dockerfile or lock on disk differs from what the matrix and the templates give now."""

    exit_code = 3


class ToolError(FactoryError):
    """A program or the Docker engine is missing, too old or does not answer."""

    exit_code = 4


class SelectionError(FactoryError):
    """No cell or image matches a selection. A run that builds nothing must not count as passed."""

    exit_code = 5


class TemplateError(FactoryError):
    """A template cannot be rendered."""

    exit_code = 6


class RegistryError(FactoryError):
    """A registry refused a request, did not answer, or has other content than was pushed."""

    exit_code = 7


class AcceptanceError(FactoryError):
    """Images that break acceptance rules. The text has one line for each broken rule; nothing was pushed."""

    exit_code = 8


class Interrupted(FactoryError):
    """The command was stopped by SIGINT or SIGTERM. Shells use 130 (128 + SIGINT) for Ctrl-C."""

    exit_code = 130


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return `; did you mean 'x'?` for the known word that is most similar, or an empty string.

    `cutoff` is the least similarity from 0 to 1; 0.6 is the default of `difflib`.
    """
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{matches[0]}'?" if matches else ""
