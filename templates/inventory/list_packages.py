"""Say what is installed in this image: packages of dpkg or rpm, Python, and its packages, wherever they lie.

    list_packages.py [ROOT]

Each line of the answer is PREFIX and a JSON object; the last one says how many there were. Reads only.
"""

import json
import os
import re
import subprocess
import sys
from email import message_from_string

PREFIX = "rlimages-inventory: "
ROOT = sys.argv[1] if len(sys.argv) > 1 else "/"
ELSEWHERE = tuple(os.path.join(ROOT, name) for name in ("proc", "sys", "dev", "checks"))
DPKG = os.path.join(ROOT, "var/lib/dpkg")
SHORT = 100
"""Characters up to which a licence field is a name and not a text."""
RPM = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{LICENSE}\\t%{SOURCERPM}\\n"


def read(path):
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def system():
    """What the image is: the words of os-release(5) that name it."""
    for path in (os.path.join(ROOT, "etc/os-release"), os.path.join(ROOT, "usr/lib/os-release")):
        if os.path.exists(path):
            words = dict(line.split("=", 1) for line in read(path).splitlines() if "=" in line)
            told = [words.get(name, "").strip("\"'") for name in ("ID", "VERSION_ID")]
            yield {"kind": "os", "id": told[0], "version": told[1]}
            return


def debs():
    """Packages of dpkg(1); distroless images have a file for each."""
    sources = [os.path.join(DPKG, "status")]
    parts = os.path.join(DPKG, "status.d")
    if os.path.isdir(parts):
        sources += [os.path.join(parts, name) for name in sorted(os.listdir(parts)) if not name.endswith(".md5sums")]
    for source in sources:
        if not os.path.exists(source):
            continue
        for paragraph in re.split(r"\n\s*\n", read(source)):
            fields = message_from_string(paragraph)
            if not fields["Package"] or "installed" not in (fields["Status"] or "installed").split():
                continue
            upstream = re.match(r"(\S+)(?: \((.+)\))?", fields["Source"] or fields["Package"])
            yield {
                "kind": "deb",
                "name": fields["Package"],
                "version": fields["Version"] or "",
                "arch": fields["Architecture"] or "",
                "source": upstream.group(1),
                "source_version": upstream.group(2) or fields["Version"] or "",
                "licenses": deb_licenses(fields["Package"]),
            }


def deb_licenses(package):
    """The short names in a copyright file that is for machines (DEP 5); nothing where it is for people."""
    path = os.path.join(ROOT, "usr/share/doc", package, "copyright")
    if not os.path.isfile(path):
        return []
    text = read(path)
    if not re.match(r"\s*Format(-Specification)?:", text):
        return []
    return sorted(set(re.findall(r"^License: *(\S.{0,%d})$" % SHORT, text, re.MULTILINE)))


def rpms():
    """Packages of rpm(8)."""
    try:
        said = subprocess.check_output(["rpm", "--root", ROOT, "-qa", "--qf", RPM], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return
    for line in sorted(said.decode("utf-8", "replace").splitlines()):
        name, epoch, version, arch, license_, source = line.split("\t")
        if name == "gpg-pubkey":
            continue
        yield {
            "kind": "rpm",
            "name": name,
            "version": version,
            "arch": arch,
            "epoch": "" if epoch == "0" else epoch,
            "source": source,
            "licenses": [license_] if license_ else [],
        }


def interpreter():
    """The Python that runs here, where it is not the system's own package."""
    path = os.path.realpath(sys.executable)
    if os.path.dirname(path) != os.path.join(ROOT, "usr/bin"):
        version = "%d.%d.%d" % sys.version_info[:3]
        yield {"kind": "generic", "name": "python", "version": version, "folder": os.path.dirname(path)}


def distributions():
    """Python packages: every dist-info and egg-info, also those that a package brings inside itself."""
    unreadable = []
    for folder, folders, files in os.walk(ROOT, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if os.path.join(folder, name) not in ELSEWHERE)
        for name in folders + sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".dist-info"):
                path = os.path.join(path, "METADATA")
            elif name.endswith(".egg-info"):
                path = os.path.join(path, "PKG-INFO") if os.path.isdir(path) else path
            else:
                continue
            if os.path.isfile(path):
                yield distribution(path, os.path.join("/", os.path.relpath(folder, ROOT)))
    for error in unreadable:
        yield {"kind": "unreadable", "path": str(error.filename)}


def distribution(path, folder):
    # the description may be long, and is not asked for
    fields = message_from_string(read(path).split("\n\n", 1)[0])
    named = [line for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    told = (fields["License"] or "").strip()
    return {
        "kind": "pypi",
        "name": (fields["Name"] or "").strip(),
        "version": (fields["Version"] or "").strip(),
        "expression": (fields["License-Expression"] or "").strip(),
        "licenses": [told] if 0 < len(told) <= SHORT and "\n" not in told and told != "UNKNOWN" else [],
        "classifiers": sorted(line.rpartition(" :: ")[2] for line in named),
        "folder": folder,
    }


def main():
    count = 0
    for part in (system, debs, rpms, interpreter, distributions):
        for record in part():
            count += 1
            print(PREFIX + json.dumps(record, sort_keys=True))
    print(PREFIX + json.dumps({"kind": "end", "records": count}))


if __name__ == "__main__":
    main()
