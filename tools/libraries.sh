#!/bin/sh
# The shared libraries that programs need beyond glibc, which is the running system's, and libcuda, which comes with the driver:
# a line each, name and path. Exit status 1, and their names, where some are not here.
# usage: tools/libraries.sh PROGRAM...
set -eu
of_glibc='^(ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl|libmvec|libnsl|libnss_.*|libcuda)\.so'
found=$(for program in "$@"; do ldd "$program"; done)
if echo "$found" | grep 'not found' >&2; then
    echo 'these libraries are not here' >&2
    exit 1
fi
echo "$found" | awk '$2 == "=>" { print $1, $3 }' | grep -Ev "$of_glibc" | sort -u
