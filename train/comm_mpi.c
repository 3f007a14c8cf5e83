/* MPI's filling of core/comm.h: messages between ranks by MPI_Isend and MPI_Irecv. Built where an
 * MPI is found (make MPI=0 leaves it out); initialised under a launcher alone. */
#include "train/ranks.h"

#if LCL_MPI
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

struct mpi {
    MPI_Comm comm;
};
struct request {
    int n;
    MPI_Request part[];
};

enum { PART = 1 << 30 }; /* bytes: counts of MPI 3 are ints */

static lcl_status check(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int n;
    if (code == MPI_SUCCESS) return LCL_OK;
    if (MPI_Error_string(code, text, &n) != MPI_SUCCESS) text[0] = '\0';
    return LCL_FAIL(LCL_IO, "%s: %s", what, text);
}

static lcl_status open_mpi(void **state, int *rank, int *size)
{
    int provided;
    struct mpi *m = calloc(1, sizeof *m);
    if (!m) return LCL_FAIL(LCL_MEMORY, "no memory for MPI's state");
    *state = m;
    LCL_TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
    LCL_TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &m->comm), "MPI_Comm_dup"));
    LCL_TRY(check(MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    LCL_TRY(check(MPI_Comm_rank(m->comm, rank), "MPI_Comm_rank"));
    return check(MPI_Comm_size(m->comm, size), "MPI_Comm_size");
}

static int parts_of(size_t bytes) { return bytes == 0 ? 1 : (int)((bytes + PART - 1) / PART); }

static lcl_status begin_mpi(void *state, enum lcl_channel channel, const struct lcl_parcel *m,
                            int n, void **request)
{
    struct mpi *mpi = state;
    int parts = 0;
    for (int i = 0; i < n; i++) parts += parts_of(m[i].bytes);
    struct request *r = malloc(sizeof *r + (size_t)parts * sizeof *r->part);
    if (!r) return LCL_FAIL(LCL_MEMORY, "no memory for %d requests", parts);
    r->n = 0;
    *request = r;
    /* Receives first: what comes then has its place. */
    for (int sending = 0; sending < 2; sending++)
        for (int i = 0; i < n; i++) {
            if (m[i].receive == (sending == 1)) continue;
            for (int k = 0; k < parts_of(m[i].bytes); k++) {
                char *at = (char *)m[i].data + (size_t)k * PART;
                size_t left = m[i].bytes - (size_t)k * PART;
                int count = (int)(left < PART ? left : PART);
                MPI_Request *part = &r->part[r->n++];
                *part = MPI_REQUEST_NULL;
                LCL_TRY(sending ? check(MPI_Isend(at, count, MPI_BYTE, m[i].peer, (int)channel,
                                                  mpi->comm, part),
                                        "MPI_Isend")
                                : check(MPI_Irecv(at, count, MPI_BYTE, m[i].peer, (int)channel,
                                                  mpi->comm, part),
                                        "MPI_Irecv"));
            }
        }
    return LCL_OK;
}

static lcl_status test_mpi(void *state, void **request)
{
    struct request *r = *request;
    int done = 0;
    (void)state;
    LCL_TRY(check(MPI_Testall(r->n, r->part, &done, MPI_STATUSES_IGNORE), "MPI_Testall"));
    if (!done) return LCL_OK;
    free(r);
    *request = NULL;
    return LCL_OK;
}

static void abort_mpi(void *state)
{
    struct mpi *m = state;
    MPI_Abort(m->comm, EXIT_FAILURE);
}

static void close_mpi(void *state)
{
    struct mpi *m = state;
    MPI_Comm_free(&m->comm);
    MPI_Finalize();
    free(m);
}

const struct lcl_filling *lcl_filling_mpi(void)
{
    static const struct lcl_filling filling = {.name = "MPI",
                                               .open = open_mpi,
                                               .begin = begin_mpi,
                                               .test = test_mpi,
                                               .abort = abort_mpi,
                                               .close = close_mpi};
    return &filling;
}

const char *lcl_mpi_describe(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) return "MPI";
    for (char *c = text; *c; c++)
        if (*c == ',' || *c == '\n') *c = '\0';
    return text;
}
#else
const struct lcl_filling *lcl_filling_mpi(void) { return NULL; }
const char *lcl_mpi_describe(void) { return "not built in"; }
#endif
