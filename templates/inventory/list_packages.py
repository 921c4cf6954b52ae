"""Print the packages of this image: those of dpkg or rpm, Python, and all Python packages in the file system.

    list_packages.py [ROOT]

Each line is PREFIX and a JSON object. The last line has the number of the lines before it. Nothing is written.
"""

import json
import os
import re
import subprocess
import sys
from email import message_from_string

PREFIX = "rlimages-inventory: "
ROOT = sys.argv[1] if len(sys.argv) > 1 else "/"
IGNORED_FOLDERS = tuple(os.path.join(ROOT, name) for name in ("proc", "sys", "dev", "checks"))
DPKG = os.path.join(ROOT, "var/lib/dpkg")
MAX_LICENSE_NAME = 100
"""A longer licence field, in characters, is the text of the licence and not its name."""
RPM_FORMAT = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{LICENSE}\\t%{SOURCERPM}\\n"


def read_text(path):
    """Return the text of a file. Bytes that are not UTF-8 become replacement characters."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def list_os():
    """Yield the id and version of the distribution, from os-release(5)."""
    for path in (os.path.join(ROOT, "etc/os-release"), os.path.join(ROOT, "usr/lib/os-release")):
        if os.path.exists(path):
            fields = dict(line.split("=", 1) for line in read_text(path).splitlines() if "=" in line)
            values = [fields.get(name, "").strip("\"'") for name in ("ID", "VERSION_ID")]
            yield {"kind": "os", "id": values[0], "version": values[1]}
            return


def list_debs():
    """Yield the packages of dpkg(1). Distroless images have one status file for each package."""
    sources = [os.path.join(DPKG, "status")]
    parts = os.path.join(DPKG, "status.d")
    if os.path.isdir(parts):
        sources += [os.path.join(parts, name) for name in sorted(os.listdir(parts)) if not name.endswith(".md5sums")]
    for source in sources:
        if not os.path.exists(source):
            continue
        for paragraph in re.split(r"\n\s*\n", read_text(source)):
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
                "licenses": read_deb_licenses(fields["Package"]),
            }


def read_deb_licenses(package):
    """Return the licence names in a package's copyright file; none unless it is machine-readable (DEP 5)."""
    path = os.path.join(ROOT, "usr/share/doc", package, "copyright")
    if not os.path.isfile(path):
        return []
    text = read_text(path)
    if not re.match(r"\s*Format(-Specification)?:", text):
        return []
    return sorted(set(re.findall(r"^License: *(\S.{0,%d})$" % MAX_LICENSE_NAME, text, re.MULTILINE)))


def list_rpms():
    """Yield the packages of rpm(8). Nothing if the image has no rpm."""
    try:
        output = subprocess.check_output(["rpm", "--root", ROOT, "-qa", "--qf", RPM_FORMAT], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return
    for line in sorted(output.decode("utf-8", "replace").splitlines()):
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


def list_interpreters():
    """Yield the Python that runs this program, unless it is a package of the distribution (in /usr/bin)."""
    path = os.path.realpath(sys.executable)
    if os.path.dirname(path) != os.path.join(ROOT, "usr/bin"):
        version = "%d.%d.%d" % sys.version_info[:3]
        yield {"kind": "generic", "name": "python", "version": version, "folder": os.path.dirname(path)}


def list_distributions():
    """Yield the Python packages: every dist-info and egg-info, also inside other packages.

    Then yield the folders that cannot be read.
    """
    unreadable = []
    for folder, folders, files in os.walk(ROOT, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if os.path.join(folder, name) not in IGNORED_FOLDERS)
        for name in folders + sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".dist-info"):
                path = os.path.join(path, "METADATA")
            elif name.endswith(".egg-info"):
                path = os.path.join(path, "PKG-INFO") if os.path.isdir(path) else path
            else:
                continue
            if os.path.isfile(path):
                yield read_distribution(path, os.path.join("/", os.path.relpath(folder, ROOT)))
    for error in unreadable:
        yield {"kind": "unreadable", "path": str(error.filename)}


def read_distribution(path, folder):
    """Return the record of a Python package from its metadata file. `folder` is where it is installed."""
    # The long description follows the first empty line.
    fields = message_from_string(read_text(path).split("\n\n", 1)[0])
    license_classifiers = [line for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    license_name = (fields["License"] or "").strip()
    is_name = 0 < len(license_name) <= MAX_LICENSE_NAME and "\n" not in license_name and license_name != "UNKNOWN"
    return {
        "kind": "pypi",
        "name": (fields["Name"] or "").strip(),
        "version": (fields["Version"] or "").strip(),
        "expression": (fields["License-Expression"] or "").strip(),
        "licenses": [license_name] if is_name else [],
        "classifiers": sorted(line.rpartition(" :: ")[2] for line in license_classifiers),
        "folder": folder,
    }


def main():
    """Print all records, and then their number: without this last line the list is incomplete."""
    count = 0
    for list_records in (list_os, list_debs, list_rpms, list_interpreters, list_distributions):
        for record in list_records():
            count += 1
            print(PREFIX + json.dumps(record, sort_keys=True))
    print(PREFIX + json.dumps({"kind": "end", "records": count}))


if __name__ == "__main__":
    main()
