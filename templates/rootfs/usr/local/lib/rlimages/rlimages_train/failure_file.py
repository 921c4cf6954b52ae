"""/opt/ml/output/failure says what went wrong, the most useful first: SageMaker shows its first 1024 characters.

The toolkit writes the exit status of a script and no word of what the script said; puts the message of its own errors
behind their traceback; in its older versions overwrites what the script has written; and reports success where it
cannot write the file.
"""

import os
import signal
import sys

from rlimages_train import script, signals

ROOM = 800
"""Characters for what the script said; the toolkit's own words before and after it have the rest of 1024."""
NEAR = 20
"""Lines that may follow a traceback if it is to be the reason of the end."""
TRACEBACK = "Traceback (most recent call last):\n"


class JobError(Exception):
    """What is wrong with a job, in one sentence. `errno` becomes the exit status of `train`."""

    errno = 1


def summary(said, room=ROOM):
    """What matters in the end of a program's standard error, in at most `room` characters.

    A traceback is told from its end: the exception, then the innermost calls. Anything else is its last lines.
    """
    said = said.strip()
    _, found, after = said.rpartition(TRACEBACK)
    lines = after.splitlines()
    depth = next((number for number, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    if found and depth and 0 < len(lines) - depth <= NEAR:
        message = "\n".join(lines[depth:])[: room * 3 // 4]
        calls = _last_lines("\n".join(lines[:depth]), room - len(message) - 1)
        return (message + "\n" + calls).rstrip()
    return _last_lines(said, room)


def _last_lines(text, room):
    """The last lines that fit, whole; the end of the last line if not even that fits."""
    if len(text) <= room:
        return text
    end = text[len(text) - max(room, 0) :]
    return end.partition("\n")[2] or end


def explain(toolkit):
    """Mend the toolkit's reports."""
    _say_what_was_said(toolkit.errors._CalledProcessError)
    _name_broken_file(toolkit.environment)
    _miss_entry_point(toolkit.entry_point)
    toolkit.files.write_failure_file = lambda message: _write(toolkit.environment.output_dir, message)


def _say_what_was_said(error_class):
    original = error_class.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.output = self.output or summary(script.last_words().decode("utf-8", "replace"))
        self.extra_info = getattr(self, "extra_info", None) or _about_signal(self.return_code)

    error_class.__init__ = init
    error_class.__str__ = _text


def _text(error):
    """As sagemaker_training puts it; sagemaker_containers has the command first, of any length, and no exit code."""
    said = error.output.decode("utf-8", "replace") if isinstance(error.output, bytes) else error.output
    lines = [type(error).__name__ + ":", "ExitCode %s" % error.return_code, 'ErrorMessage "%s"' % said]
    if error.extra_info:
        lines.append('ExtraInfo "%s"' % error.extra_info)
    return "\n".join(lines + ['Command "%s"' % error.cmd])


def _about_signal(code):
    """A script that a signal has killed; of SIGKILL a shell says 137, which the newer toolkits explain, but not -9."""
    try:
        number = signal.SIGKILL if int(code) == 128 + signal.SIGKILL else -int(code)
        name = signal.Signals(number).name
    except (TypeError, ValueError):
        return None
    hint = "OutOfMemory: " if number == signal.SIGKILL else ""
    return "%sProcess killed by %s (signal %d)" % (hint, name, number)


def _name_broken_file(environment):
    read = environment._read_json

    def read_json(path):
        try:
            return read(path)
        except ValueError as error:
            raise JobError("%s is not JSON: %s" % (path, error)) from error

    environment._read_json = read_json


def _miss_entry_point(entry_point):
    install = entry_point.install

    def insist(name, *args, **kwargs):
        if not name:
            raise JobError("the job names no entry point: hyperparameter sagemaker_program is missing")
        return install(name, *args, **kwargs)

    entry_point.install = insist


def _write(folder, message):
    """Write the failure file. Whatever happens here, the job has failed and must end as failed."""
    error = sys.exc_info()[1]
    if isinstance(error, (JobError, signals.Stopped)):
        message = str(error)
    elif error is not None and str(error) != message:  # an error of the toolkit: its traceback comes first there
        message = "%s: %s\n%s" % (type(error).__name__, error, message)
    path = os.path.join(folder, "failure")
    try:
        if os.path.exists(path) and os.path.getsize(path):
            return  # the script's own words
        with open(path, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(message)
    except OSError as problem:
        sys.stderr.write("rlimages: cannot write %s: %s\n" % (path, problem.strerror))
