"""Check that Python and every promised package are installed in exactly the promised versions."""

import json
import re
import sys

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

# A framework may be packaged under several names, by processor and publisher.
SAME = {
    "tensorflow": ("tensorflow-cpu", "tensorflow-gpu", "tf-nightly"),
    "mxnet": ("mxnet-mkl", "mxnet-cu90", "mxnet-cu90mkl"),
}


def installed():
    """Return {normalized name: version}. If a name is on the path twice, the first counts, as in Python."""
    try:
        from importlib.metadata import distributions
    except ImportError:  # Python 3.7 and older
        import pkg_resources

        return {normal(found.project_name): found.version for found in pkg_resources.working_set}
    found = {}
    for one in distributions():
        if one.metadata["Name"]:
            found.setdefault(normal(one.metadata["Name"]), one.version)
    return found


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def same(promised, found):
    """Return whether two versions match: `0.11.0` is `0.11`, and `2.13.0+cpu` satisfies `2.13.0`."""
    if "+" not in promised:
        found = found.split("+")[0]
    return re.sub(r"(\.0)+$", "", promised) == re.sub(r"(\.0)+$", "", found)


def main():
    wrong = []
    python = "%d.%d" % sys.version_info[:2]
    if python != CELL["python"]:
        wrong.append("Python is %s, not %s" % (python, CELL["python"]))
    here = installed()
    for name, promised in sorted(CELL["inventory"].items()):
        names = (normal(name),) + SAME.get(normal(name), ())
        found = next((here[other] for other in names if other in here), None)
        if found is None:
            wrong.append("%s %s is missing" % (name, promised))
        elif not same(promised, found):
            wrong.append("%s is %s, not %s" % (name, found, promised))
        else:
            print("%s %s" % (name, found))
    if wrong:
        print("; ".join(wrong))
        return 1
    print("Python %s and %d promised packages have the promised versions" % (python, len(CELL["inventory"])))
    return 0


sys.exit(main())
