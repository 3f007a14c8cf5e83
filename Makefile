# lcl: link-context learning for multimodal LLMs. `make help` lists the targets.
# MODE=release|debug|asan|ubsan|tsan picks the build; objects are mirrored under build/ (build/MODE/ for the others).

MODE   ?= release
WERROR ?=
CC     ?= cc
B      := build$(if $(filter-out release,$(MODE)),/$(MODE))

PKGS    := hdf5 yaml-0.1 jansson libpng libwebp libpcre2-8
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# GEMM: oneDNN where its header is found, OpenBLAS elsewhere; GEMM=onednn|openblas forces one.
GEMM ?= $(shell echo '\#include <oneapi/dnnl/dnnl.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo onednn || echo openblas)
GEMM_CFLAGS_onednn   := -DLCL_GEMM_ONEDNN=1
GEMM_LIBS_onednn     := -ldnnl
GEMM_CFLAGS_openblas := -DLCL_GEMM_OPENBLAS=1 $(shell pkg-config --cflags openblas 2>/dev/null)
GEMM_LIBS_openblas   := $(shell pkg-config --libs openblas 2>/dev/null || echo -lopenblas)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror=unused-result
MODE_FLAGS_release := -O2 -g1
MODE_FLAGS_debug   := -O0 -g
MODE_FLAGS_asan    := -O1 -g -fsanitize=address -fno-omit-frame-pointer
MODE_FLAGS_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined
MODE_FLAGS_tsan    := -O1 -g -fsanitize=thread
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE $(WARN) $(if $(WERROR),-Werror) $(MODE_FLAGS_$(MODE)) -fno-math-errno -pthread -I. $(PKG_CFLAGS) -MMD -MP $(CFLAGS)
LIBS := $(PKG_LIBS) -ljpeg -lgif $(GEMM_LIBS_$(GEMM)) -lm -pthread
LDFLAGS_ALL := $(MODE_FLAGS_$(MODE)) $(LDFLAGS)

# The CPU backend is compiled once an instruction set; the table of the best one is chosen at start.
ISAS := $(if $(filter x86_64,$(shell uname -m)),v2 v3 v4,generic)
ISA_FLAGS_v2 := -march=x86-64-v2
ISA_FLAGS_v3 := -march=x86-64-v3 -mtune=generic
ISA_FLAGS_v4 := -march=x86-64-v4 -mprefer-vector-width=512
ISA_FLAGS_generic :=
# -O3 and contraction to FMA: the hot loops live here; no fast-math.
CPU_FLAGS := $(if $(filter debug,$(MODE)),,-O3) -fopenmp-simd -ffp-contract=fast -fno-trapping-math

LIB_SRC := $(wildcard core/*.c data/*.c model/*.c optim/*.c checkpoint/*.c train/*.c) cpu/backend.c
ISA_SRC := $(filter-out cpu/backend.c,$(wildcard cpu/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$B/%.o) $(foreach i,$(ISAS),$(ISA_SRC:%.c=$B/%.$i.o))
TOOL_OBJ := $(patsubst %.c,$B/%.o,$(wildcard tools/*.c))
TEST_SRC := $(wildcard tests/*/test_*.c)
TEST_BIN := $(TEST_SRC:%.c=$B/%)
TEST_LIB := $(patsubst %.c,$B/%.o,$(wildcard tests/support/*.c))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

all: $B/lcl ## build build/lcl

$B/lcl: $(TOOL_OBJ) $B/liblcl.a
	$(CC) $(LDFLAGS_ALL) -o $@ $(TOOL_OBJ) $B/liblcl.a $(LIBS)

$B/liblcl.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(EXTRA_CFLAGS) -c -o $@ $<

$B/cpu/backend.o: EXTRA_CFLAGS := $(GEMM_CFLAGS_$(GEMM)) $(foreach i,$(ISAS),-DLCL_HAVE_ISA_$i=1)

define isa_rule
$B/cpu/%.$1.o: cpu/%.c
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS_ALL) $$(GEMM_CFLAGS_$$(GEMM)) $$(CPU_FLAGS) $$(ISA_FLAGS_$1) -DLCL_CPU_ISA=$1 -DLCL_CPU_ISA_$1=1 -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$i)))

$B/tests/%: $B/tests/%.o $(TEST_LIB) $B/liblcl.a
	$(CC) $(LDFLAGS_ALL) -o $@ $< $(TEST_LIB) $B/liblcl.a -lcmocka $(LIBS)

tests: $(TEST_BIN) ## build the tests

clean: ## remove build/ but for downloads and environments
	rm -rf $B/core $B/cpu $B/model $B/data $B/optim $B/checkpoint $B/train $B/tools $B/tests $B/lcl $B/liblcl.a

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  %-16s %s\n",$$1,$$2}'

.PHONY: all tests clean help

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(TEST_BIN:=.d) $(TEST_LIB:.o=.d)
