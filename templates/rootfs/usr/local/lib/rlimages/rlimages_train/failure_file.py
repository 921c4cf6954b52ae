"""Write the reason of a failed job to /opt/ml/output/failure, with the most useful part first.

SageMaker shows the first 1024 characters of this file. This module corrects four habits of the toolkit:

- For a failed script, it writes the exit status and nothing of the script's standard error.
- For an error of its own, it writes the traceback before the message.
- Older versions overwrite a failure file that the script has written.
- If it cannot write the file, it ends as if the job had succeeded.
"""

import os
import signal
import sys

from rlimages_train import script_output, signals

SUMMARY_LENGTH = 800
"""Characters for the script's standard error. The toolkit's text around it takes the rest of the 1024."""
MAX_LINES_AFTER_TRACEBACK = 20
"""If more lines than this follow a traceback, it is not taken for the reason of the failure."""
TRACEBACK = "Traceback (most recent call last):\n"


class JobError(Exception):
    """An error in a job's configuration. The message is one sentence; `errno` becomes the exit status of `train`."""

    errno = 1


def summarize(stderr, length=SUMMARY_LENGTH):
    """Return the most useful part of `stderr`, the text of a program's standard error, in at most `length` characters.

    If it ends with a traceback, return the exception and then the innermost calls. Otherwise return the last lines.
    """
    stderr = stderr.strip()
    _, traceback, rest = stderr.rpartition(TRACEBACK)
    lines = rest.splitlines()
    calls_end = next((number for number, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    if traceback and calls_end and 0 < len(lines) - calls_end <= MAX_LINES_AFTER_TRACEBACK:
        message = "\n".join(lines[calls_end:])[: length * 3 // 4]
        calls = _last_lines("\n".join(lines[:calls_end]), length - len(message) - 1)
        return (message + "\n" + calls).rstrip()
    return _last_lines(stderr, length)


def _last_lines(text, length):
    """Return the last whole lines of `text` that fit in `length` characters.

    If the last line does not fit, returns its end.
    """
    if len(text) <= length:
        return text
    end = text[len(text) - max(length, 0) :]
    return end.partition("\n")[2] or end


def improve_reports(toolkit):
    """Replace the functions of `toolkit`, a TrainingToolkit, that report the failure of a job."""
    _add_stderr(toolkit.errors._CalledProcessError)
    _name_broken_file(toolkit.environment)
    _require_entry_point(toolkit.entry_point)
    toolkit.files.write_failure_file = lambda message: _write_failure_file(toolkit.environment.output_dir, message)


def _add_stderr(error_class):
    """Make the toolkit's error for a failed program contain the program's standard error and its signal.

    `error_class` is the class of that error.
    """
    original = error_class.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.output = self.output or summarize(script_output.last_stderr().decode("utf-8", "replace"))
        self.extra_info = getattr(self, "extra_info", None) or _describe_signal(self.return_code)

    error_class.__init__ = init
    error_class.__str__ = _format_error


def _format_error(error):
    """Return the text of `error`, the toolkit's error for a failed program, as sagemaker_training has it.

    The command, which may be long, is last. sagemaker_containers puts it first, and leaves out the exit code.
    """
    output = error.output.decode("utf-8", "replace") if isinstance(error.output, bytes) else error.output
    lines = [type(error).__name__ + ":", "ExitCode %s" % error.return_code, 'ErrorMessage "%s"' % output]
    if error.extra_info:
        lines.append('ExtraInfo "%s"' % error.extra_info)
    return "\n".join(lines + ['Command "%s"' % error.cmd])


def _describe_signal(code):
    """Return a sentence about the signal that killed a script with the exit code `code`; None if no signal did.

    A shell reports SIGKILL as 137, Python as -9. Newer toolkits explain only 137.
    """
    try:
        number = signal.SIGKILL if int(code) == 128 + signal.SIGKILL else -int(code)
        name = signal.Signals(number).name
    except (TypeError, ValueError):
        return None
    hint = "OutOfMemory: " if number == signal.SIGKILL else ""
    return "%sProcess killed by %s (signal %d)" % (hint, name, number)


def _name_broken_file(environment):
    """Make the JSON reader of `environment`, a module of the toolkit, name a file that is not JSON in its error."""
    original = environment._read_json

    def read_json(path):
        try:
            return original(path)
        except ValueError as error:
            raise JobError("%s is not JSON: %s" % (path, error)) from error

    environment._read_json = read_json


def _require_entry_point(entry_point):
    """Replace `install` of `entry_point`, the toolkit's module, to raise JobError for a job that has no entry point."""
    original = entry_point.install

    def install(name, *args, **kwargs):
        if not name:
            raise JobError("the job has no entry point: hyperparameter sagemaker_program is missing")
        return original(name, *args, **kwargs)

    entry_point.install = install


def _write_failure_file(folder, message):
    """Write `message`, the toolkit's report of a failure, to the file `failure` in `folder`.

    The exception being handled comes first. A file that the script wrote is kept. If the file cannot be written, log
    why and return: the job must still end as failed.
    """
    error = sys.exc_info()[1]
    if isinstance(error, (JobError, signals.JobStopped)):
        message = str(error)
    elif error is not None and str(error) != message:  # an error of the toolkit: its message starts with a traceback
        message = "%s: %s\n%s" % (type(error).__name__, error, message)
    path = os.path.join(folder, "failure")
    try:
        if os.path.exists(path) and os.path.getsize(path):
            return  # the script wrote its own reason
        with open(path, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(message)
    except OSError as os_error:
        sys.stderr.write("rlimages: cannot write %s: %s\n" % (path, os_error.strerror))
