"""Check that no file or folder is writable by everybody, except those that must be."""

import os
import stat
import sys

MEANT = ("/tmp", "/var/tmp", "/dev", "/proc", "/sys", "/run/lock", "/checks")


def main():
    wrong = []
    count = 0
    for top, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(top, name) not in MEANT]
        for name in folders + files:
            path = os.path.join(top, name)
            mode = os.lstat(path).st_mode
            count += 1
            if stat.S_ISLNK(mode) or not mode & stat.S_IWOTH:
                continue
            if not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
                wrong.append("%s (%o)" % (path, stat.S_IMODE(mode)))
    if wrong:
        print("%d files or folders are writable by everybody: %s" % (len(wrong), ", ".join(wrong[:20])))
        return 1
    print("none of %d files and folders is writable by everybody" % count)
    return 0


sys.exit(main())
