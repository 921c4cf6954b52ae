"""Check that the image's labels are what the matrix promises."""

import json
import sys

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)


def promised():
    labels = {
        "rlimages.cell": CELL["id"],
        "rlimages.toolkit": CELL["toolkit"],
        "rlimages.version": CELL["version"],
        "rlimages.python": CELL["python"],
        "rlimages.line": CELL["line"],
        "org.opencontainers.image.version": CELL["version"],
    }
    if CELL["framework"]:
        labels["rlimages.framework"] = CELL["framework"]["name"]
        labels["rlimages.framework.version"] = CELL["framework"]["version"]
    if CELL["cuda"]:
        labels["rlimages.cuda"] = CELL["cuda"]
    return labels


def main():
    labels = CELL["labels"] or {}
    wrong = [
        "%s is %r, not %r" % (name, labels.get(name), value)
        for name, value in sorted(promised().items())
        if labels.get(name) != value
    ]
    for name in ("title", "description", "licenses", "base.name"):
        if not labels.get("org.opencontainers.image." + name):
            wrong.append("org.opencontainers.image.%s is missing" % name)
    wrong += ["%s has an unreplaced variable: %s" % item for item in sorted(labels.items()) if "${" in item[1]]
    if wrong:
        print("; ".join(wrong))
        return 1
    print("%d labels, all as promised" % len(labels))
    return 0


sys.exit(main())
