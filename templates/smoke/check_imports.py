"""Check that every promised package can be imported, and the program behind `train` too.

If an import fails, the last line of the traceback names the module.
"""

import importlib
import json
import re
import shutil
import sys
import time

try:
    from importlib import metadata
except ImportError:  # Python 3.7 and older
    metadata = None

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

# Top-level modules that users do not import.
ASIDE = re.compile(r"^(_|tests?$|examples?$|benchmarks?$|docs?$)")


def modules(name):
    """Return the top-level modules of a distribution; an empty list if it is not installed under this name."""
    if metadata is None:
        import pkg_resources

        try:
            found = pkg_resources.get_distribution(name)
        except pkg_resources.DistributionNotFound:
            return []
        text = found.get_metadata("top_level.txt") if found.has_metadata("top_level.txt") else ""
    else:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return []
        text = found.read_text("top_level.txt") or "\n".join(
            file.parts[0] for file in found.files or () if len(file.parts) == 2 and file.name == "__init__.py"
        )
    names = sorted(set(text.split()))
    return [module for module in names if module.isidentifier() and not ASIDE.match(module)]


def train():
    """Return the entry point of the console script `train`, or None."""
    if metadata is None:
        import pkg_resources

        return next(pkg_resources.iter_entry_points("console_scripts", "train"), None)
    found = metadata.entry_points()
    scripts = found.select(group="console_scripts") if hasattr(found, "select") else found["console_scripts"]
    return next((script for script in scripts if script.name == "train"), None)


def main():
    count = 0
    for name in sorted(CELL["inventory"]):
        for module in modules(name):
            print("import %s" % module)
            sys.stdout.flush()
            started = time.time()
            importlib.import_module(module)
            count += 1
            print("  %.1f s" % (time.time() - started))
    program = shutil.which("train")
    if program is None:
        print("`train` is not on PATH")
        return 1
    script = train()
    if script is not None:
        script.load()
    print("imported %d modules and %s" % (count, program))
    return 0


sys.exit(main())
