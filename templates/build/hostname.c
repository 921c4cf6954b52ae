/*
 * gethostname() for a container that SageMaker started.
 *
 * All hosts of a training job have the same host name there, which Ray, MPI and NCCL take for one machine.
 * The name by which the hosts know each other (algo-1, algo-2, ...) is `current_host` in
 * /opt/ml/input/config/resourceconfig.json; rlimages-entrypoint reads it into RLIMAGES_HOSTNAME and preloads
 * this library. Without that variable the answer is the kernel's.
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
    const char *answer = getenv("RLIMAGES_HOSTNAME");
    size_t length;

    if (answer == NULL || answer[0] == '\0') {
        if (uname(&kernel) != 0)
            return -1;
        answer = kernel.nodename;
    }
    length = strlen(answer);
    if (length < size) {
        memcpy(name, answer, length + 1);
        return 0;
    }
    /* As glibc does: what fits, always terminated, and an error that says it was cut. */
    if (size > 0) {
        memcpy(name, answer, size - 1);
        name[size - 1] = '\0';
    }
    errno = ENAMETOOLONG;
    return -1;
}
