#!/bin/sh
# usage: tools/mpi-flags.sh cflags|libs: what a program that uses MPI is compiled or linked with; nothing where no MPI is found.
# MPI=NAME picks a pkg-config package (ompi-c, mpich), MPICC=COMMAND a compiler wrapper.
set -u
what=$1
for package in ${MPI:-ompi-c mpich}; do
    if pkg-config --exists "$package" 2>/dev/null; then
        pkg-config --"$what" "$package"
        exit 0
    fi
done
wrapper=${MPICC:-mpicc}
command -v "$wrapper" >/dev/null 2>&1 || exit 0
case $what in
cflags) open=--showme:compile other=-compile_info ;;
*) open=--showme:link other=-link_info ;;
esac
# Open MPI prints the flags alone, MPICH and Intel MPI the whole command of their compiler.
"$wrapper" "$open" 2>/dev/null || "$wrapper" "$other" 2>/dev/null | cut -d' ' -f2- -s
