/*
 * Replace gethostname() in a container that SageMaker started.
 *
 * All hosts of a training job have the same host name, so Ray, MPI and NCCL take them for one machine. The names
 * that the hosts resolve (algo-1, algo-2, ...) are different: each host's own is `current_host` in
 * /opt/ml/input/config/resourceconfig.json. rlimages-entrypoint copies it to RLIMAGES_HOSTNAME and preloads this
 * library. Without that variable this function returns the kernel's name.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

int gethostname(char *name, size_t size)
{
    struct utsname kernel;
    const char *result = getenv("RLIMAGES_HOSTNAME");
    size_t length;

    if (result == NULL || result[0] == '\0') {
        if (uname(&kernel) != 0)
            return -1;
        result = kernel.nodename;
    }
    length = strlen(result);
    if (length < size) {
        memcpy(name, result, length + 1);
        return 0;
    }
    /* Like glibc: truncate the name, terminate it and report an error. */
    if (size > 0) {
        memcpy(name, result, size - 1);
        name[size - 1] = '\0';
    }
    errno = ENAMETOOLONG;
    return -1;
}
