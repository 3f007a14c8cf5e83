/* What core/h5.c and core/h5_set.c share. */
#ifndef LCL_CORE_H5_PRIVATE_H
#define LCL_CORE_H5_PRIVATE_H

#include <hdf5.h>

#include "core/h5.h"

/* Turns HDF5's error stack into one lcl error: "<path>: <what> <object>: <reason>"; damaged
 * metadata become LCL_CORRUPT. */
/* To be called before any other HDF5 call, which would clear the stack. */
lcl_status lcl_h5_fail(lcl_status code, const char *path, const char *what, const char *object);
hid_t lcl_h5_disk_type(lcl_h5_type t);

#endif
