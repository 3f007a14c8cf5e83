# lcl: link-context learning for multimodal LLMs. `make help` lists the targets.
# MODE=release|debug|asan|ubsan|tsan picks the build; objects are mirrored under build/ (build/MODE/ for the others).

RELEASE := 0.1.0
MODE    ?= release
WERROR  ?=
PREFIX  ?= /usr/local
CC      ?= cc
B       := build$(if $(filter-out release,$(MODE)),/$(MODE))

PKGS := $(shell pkg-config --exists hdf5 2>/dev/null && echo hdf5 || echo hdf5-serial) \
        yaml-0.1 jansson libpng libwebp libpcre2-8
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# GEMM: oneDNN where its header is found, OpenBLAS elsewhere; GEMM=onednn|openblas forces one.
# (A hash by name: GNU Make 4.3 and those before it read one after a backslash differently.)
HASH := \#
, := ,
GEMM ?= $(shell echo '$(HASH)include <oneapi/dnnl/dnnl.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo onednn || echo openblas)
GEMM_CFLAGS_onednn   := -DLCL_GEMM_ONEDNN=1
GEMM_LIBS_onednn     := -ldnnl
GEMM_CFLAGS_openblas := -DLCL_GEMM_OPENBLAS=1 $(shell pkg-config --cflags openblas 2>/dev/null)
GEMM_LIBS_openblas   := $(shell pkg-config --libs openblas 2>/dev/null || echo -lopenblas)

# Ranks under mpirun: where an MPI 3 is found (ompi-c, mpich, mpicc). MPI=0 leaves it out, MPI=mpich picks one.
MPI ?=
MPI_LIBS := $(if $(filter 0,$(MPI)),,$(shell MPI='$(MPI)' sh tools/mpi-flags.sh libs))
MPI_CFLAGS := $(if $(MPI_LIBS),-DLCL_MPI=1 $(shell MPI='$(MPI)' sh tools/mpi-flags.sh cflags))
MPI_TEXT := MPI $(MPI_CFLAGS) $(MPI_LIBS)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror=unused-result
MODE_FLAGS_release := -O2 -g1
MODE_FLAGS_debug   := -O0 -g
MODE_FLAGS_asan    := -O1 -g -fsanitize=address -fno-omit-frame-pointer
MODE_FLAGS_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined
MODE_FLAGS_tsan    := -O1 -g -fsanitize=thread
# Of `make fuzz`: by clang, with the coverage that libFuzzer goes by; but the kernels, which read no files, by GCC
# (they are written in its vector builtins), for one instruction set, without sanitizers.
MODE_FLAGS_libfuzzer := -O1 -g -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -fsanitize=fuzzer-no-link,address,undefined \
                        -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ifeq ($(MODE_FLAGS_$(MODE)),)
$(error MODE=$(MODE): it is one of release, debug, asan, ubsan, tsan, libfuzzer)
endif
CFLAGS_KEPT := -std=c11 -D_GNU_SOURCE $(WARN) $(MODE_FLAGS_$(MODE)) -fno-math-errno -pthread -I. $(PKG_CFLAGS) -MMD -MP $(CFLAGS)
CFLAGS_ALL  := $(CFLAGS_KEPT) $(if $(WERROR),-Werror)
ISA_CFLAGS  := $(if $(filter libfuzzer,$(MODE)),$(filter-out -fsanitize=%,$(CFLAGS_ALL)),$(CFLAGS_ALL))
LIBS := $(PKG_LIBS) -ljpeg -lgif $(GEMM_LIBS_$(GEMM)) -lm -pthread
LDFLAGS_ALL := $(MODE_FLAGS_$(MODE)) $(LDFLAGS)

# The CPU backend is compiled once an instruction set; the table of the best one is chosen at start.
ISAS := $(if $(filter x86_64,$(shell uname -m)),v2 v3 v4,generic)
ISAS := $(if $(filter libfuzzer,$(MODE)),$(firstword $(ISAS)),$(ISAS))
ISA_CC := $(if $(filter libfuzzer,$(MODE)),gcc,$(CC))
ISA_FLAGS_v2 := -march=x86-64-v2
ISA_FLAGS_v3 := -march=x86-64-v3 -mtune=generic
ISA_FLAGS_v4 := -march=x86-64-v4 -mprefer-vector-width=512
ISA_FLAGS_generic :=
# -O3 and contraction to FMA: the hot loops live here; no fast-math.
CPU_FLAGS := $(if $(filter debug,$(MODE)),,-O3) -fopenmp-simd -ffp-contract=fast -fno-trapping-math

# The CUDA backend: where nvcc 12.4 or newer is found. CUDA=0 leaves it out, CUDA_ARCH="90a" picks architectures
# (default: those of the GPUs in this machine, else all that nvcc knows of 80, 90a, 100, 120).
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
NVCC_RELEASE := $(if $(NVCC),$(shell $(NVCC) --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p'))
NVCC_USABLE  := $(if $(NVCC_RELEASE),$(shell set -- $(NVCC_RELEASE); [ $$(($$1 * 100 + $$2)) -ge 1204 ] && echo 1))
CUDA ?= $(if $(and $(NVCC_USABLE),$(filter release,$(MODE))),1,0)
CUDA_ROOT := $(if $(NVCC),$(patsubst %/bin/,%,$(dir $(realpath $(NVCC)))))
# Messages between ranks' GPUs: where an MPI is, and nccl.h, in NCCL_HOME, the toolkit or the system. NCCL=0 leaves it out.
NCCL_DIRS := $(if $(NCCL_HOME),$(NCCL_HOME),$(CUDA_ROOT) $(CUDA_ROOT)/targets/x86_64-linux /usr)
NCCL_FOUND := $(if $(MPI_LIBS),$(firstword $(foreach d,$(NCCL_DIRS),$(if $(wildcard $d/include/nccl.h),$d))))
NCCL ?= $(if $(NCCL_FOUND),1,0)
ifeq ($(CUDA),1)
CUDA_HERE := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | sed 's/^90$$/90a/')
CUDA_ARCH ?= $(or $(CUDA_HERE),$(foreach a,80 90a 100 120,$(if $(filter compute_$(a:%a=%),$(shell $(NVCC) --list-gpu-arch)),$a)))
CUDA_OBJ  := $(patsubst %.cu,$B/nv/%.o,$(wildcard cuda/*.cu)) $B/nv/train/device.o
CUDA_LIBS := -L$(CUDA_ROOT)/lib64 -L$(CUDA_ROOT)/targets/x86_64-linux/lib $(CUDA_RPATH) -lcudart_static -lcublasLt -lstdc++ -ldl -lrt
CUDA_RPATH = -Wl,-rpath,$(CUDA_ROOT)/lib64
ifeq ($(NCCL),1)
$(if $(NCCL_FOUND),,$(error NCCL=1: there is no MPI, or no nccl.h in $(NCCL_DIRS): NCCL_HOME=DIR names another place))
NCCL_OBJ  := $B/nv/train/comm_nccl.o
NCCL_LIBS := $(foreach d,$(filter-out /usr,$(NCCL_FOUND)),-L$d/lib64 -L$d/lib) -lnccl $(if $(NCCL_HOME),-Wl$(,)-rpath$(,)$(NCCL_HOME)/lib)
endif
NVCC_CODE := $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a)
NVCC_FLAGS := -std=c++17 -O3 -Xcompiler -Wall,-Wextra,-Wno-unknown-pragmas -I. -DLCL_CUDA_ARCHES='"$(foreach a,$(CUDA_ARCH),sm_$a)"'
else ifneq ($(NVCC),)
$(if $(NVCC_USABLE),,$(info nvcc $(subst $() ,.,$(NVCC_RELEASE)) is older than 12.4: building without CUDA))
endif
CUDA_TEXT := CUDA=$(CUDA) $(CUDA_ARCH) $(NVCC_RELEASE) $(NCCL_LIBS)

LIB_SRC := $(wildcard core/*.c data/*.c model/*.c optim/*.c checkpoint/*.c train/*.c) cpu/backend.c
ISA_SRC := $(filter-out cpu/backend.c,$(wildcard cpu/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$B/%.o) $(foreach i,$(ISAS),$(ISA_SRC:%.c=$B/%.$i.o))
TOOL_OBJ := $(patsubst %.c,$B/%.o,$(wildcard tools/*.c))
# test_*.c: each within seconds, run in every mode; slow_*.c: `make test` runs them in release only; nightly_*.c.
# The longest first: they run as many at a time as there are processors.
longest_first = $(filter $1,$2) $(filter-out $1,$2)
TEST_BIN    := $(patsubst %.c,$B/%,$(call longest_first,tests/train/% tests/fuzz/% tests/model/%,\
             $(filter-out tests/cuda/%,$(wildcard tests/*/test_*.c))))
SLOW_BIN    := $(patsubst %.c,$B/%,$(wildcard tests/*/slow_*.c))
NIGHTLY_BIN := $(patsubst %.c,$B/%,$(wildcard tests/*/nightly_*.c))
TEST_SHARED := $(patsubst %.c,$B/%.o,$(filter-out tests/support/backend_%,$(wildcard tests/support/*.c)))
TEST_LIB    := $(TEST_SHARED) $B/tests/support/backend_cpu.o
OUR_C := $(wildcard core/*.[ch] cpu/*.[ch] data/*.[ch] model/*.[ch] optim/*.[ch] checkpoint/*.[ch] train/*.[ch] \
         tools/*.[ch] tests/*/*.[ch] cuda/*.cu cuda/*.cuh cuda/*.h cuda/sim/*.[ch] tests/cuda/*.cu)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

# One short line a file; V=1 shows whole commands.
Q := $(if $(V),,@)

all: $B/lcl ## build build/lcl; V=1 shows the commands

$B/lcl: $(TOOL_OBJ) $(CUDA_OBJ) $(NCCL_OBJ) $B/liblcl.a $B/cuda-setting
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $(TOOL_OBJ) $(CUDA_OBJ) $(NCCL_OBJ) $B/liblcl.a $(LIBS) $(MPI_LIBS) $(CUDA_LIBS) $(NCCL_LIBS)

$B/nv/%.o: %.cu $B/flags $B/cuda-setting
	@mkdir -p $(@D)
	@echo '  NVCC $@'
	$Q$(NVCC) $(NVCC_FLAGS) $(NVCC_CODE) -MMD -MP -c -o $@ $<

# wgmma is Hopper's alone.
$B/nv/cuda/%_wgmma.o $B/nv/tests/cuda/hopper.o: NVCC_CODE := -gencode arch=compute_90a,code=sm_90a

# Picks the backend, where there is one to pick: cuda/ (nv) or its emulator (sim).
$B/nv/train/device.o $B/sim/train/device.o: train/device.c $B/flags
	@mkdir -p $(@D)
	@echo '  CC   $@'
	$Q$(CC) $(CFLAGS_ALL) -DLCL_CUDA=1 -c -o $@ $<

# The headers' warnings are their makers'.
$B/nv/train/comm_nccl.o: train/comm_nccl.c $B/flags $B/cuda-setting
	@mkdir -p $(@D)
	@echo '  CC   $@'
	$Q$(CC) $(CFLAGS_ALL) -DLCL_NCCL=1 -isystem $(NCCL_FOUND)/include -isystem $(CUDA_ROOT)/include -c -o $@ $<

$B/liblcl.a: $(LIB_OBJ)
	@rm -f $@
	@echo '  AR   $@'
	$Qar rcs $@ $^

$B/%.o: %.c $B/flags
	@mkdir -p $(@D)
	@echo '  CC   $@'
	$Q$(CC) $(CFLAGS_ALL) $(EXTRA_CFLAGS) -c -o $@ $<

$B/train/comm_mpi.o: EXTRA_CFLAGS = $(MPI_CFLAGS:-I%=-isystem %)
$B/train/comm_mpi.o: $B/mpi-setting

$B/cpu/backend.o: EXTRA_CFLAGS := $(GEMM_CFLAGS_$(GEMM)) $(foreach i,$(ISAS),-DLCL_HAVE_ISA_$i=1)

define isa_rule
$B/cpu/%.$1.o: cpu/%.c $B/flags
	@mkdir -p $$(@D)
	@echo '  CC   $$@'
	$$Q$$(ISA_CC) $$(ISA_CFLAGS) $$(GEMM_CFLAGS_$$(GEMM)) $$(CPU_FLAGS) $$(ISA_FLAGS_$1) -DLCL_CPU_ISA=$1 -DLCL_CPU_ISA_$1=1 -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$i)))

$B/tests/%: $B/tests/%.o $(TEST_LIB) $B/liblcl.a
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $B/liblcl.a -lcmocka $(LIBS) $(MPI_LIBS)

# NCCL's filling over a stub of the two libraries, wherever it is built (tests/nccl).
NCCL_TEST_OBJ := $B/tests/nccl/stub.o $B/tests/nccl/alone_stub.o $B/tests/nccl/filling.o
$(filter $B/tests/nccl/%,$(TEST_BIN)): $(NCCL_TEST_OBJ)
$B/tests/nccl/filling.o: train/comm_nccl.c $B/flags
	@mkdir -p $(@D)
	@echo '  CC   $@'
	$Q$(CC) $(CFLAGS_ALL) -DLCL_NCCL=1 -Itests/nccl -c -o $@ $<

# Damaged files: the same targets under mutations of our own and under libFuzzer.
FUZZ_OBJ := $(patsubst %.c,$B/%.o,$(filter-out tests/fuzz/test_fuzz.c tests/fuzz/libfuzzer.c,$(wildcard tests/fuzz/*.c)))
# Readers of lines that lie in tools/.
FUZZ_TOOLS := $(patsubst %,$B/tools/%.o,encode_line eval_record eval_rows_read eval_tally eval_trials lines scoring)
$B/tests/fuzz/test_fuzz: $(FUZZ_OBJ) $(FUZZ_TOOLS)
$B/tests/fuzz/libfuzzer: LDFLAGS_ALL += -fsanitize=fuzzer
$B/tests/fuzz/libfuzzer: $(FUZZ_OBJ) $(FUZZ_TOOLS)

# --- the CUDA backend in the emulator: kernels by the host's compiler, every access watched (cuda/sim/sim.h) ---

CXX ?= c++
SIM_CXXFLAGS := -std=c++17 -O1 -g1 -fno-tree-vectorize -ffp-contract=off -fsanitize=thread,bounds -Wall -Wextra \
                -Wno-unknown-pragmas -Wno-psabi -pthread -I. -MMD -MP
SIM_CU   := $(filter-out cuda/gemm_cublaslt.cu,$(wildcard cuda/*.cu))
SIM_OBJ  := $(SIM_CU:%.cu=$B/sim/%.o) $(patsubst %.c,$B/%.o,$(wildcard cuda/sim/*.c))
OF_CPU   := tests/ops/test_threads.c tests/ops/test_attention_pairs.c
SIM_TEST := $(patsubst tests/%.c,$B/sim/tests/%,$(call longest_first,%/test_whole.c %/test_golden.c %/test_attention.c,\
             $(wildcard tests/cuda/test_*.c tests/model/test_*.c) $(filter-out $(OF_CPU),$(wildcard tests/ops/test_*.c))))
SIM_TEST_CU := $(patsubst %.cu,$B/sim/%.o,$(wildcard tests/cuda/*.cu))

$B/sim/%.o: %.cu $B/flags
	@mkdir -p $(@D)
	@echo '  SIM  $@'
	$Q$(CXX) $(SIM_CXXFLAGS) $(if $(WERROR),-Werror) -x c++ -c -o $@ $<

$B/sim/tests/%: $B/tests/%.o $(TEST_SHARED) $B/tests/support/backend_sim.o $(SIM_TEST_CU) $B/sim/train/device.o $(SIM_OBJ) $B/liblcl.a
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CXX) $(LDFLAGS_ALL) -o $@ $^ -lcmocka $(LIBS) $(MPI_LIBS) -ldl

# The lcl command, and the tests of whole models, with the emulator for a GPU.
$B/sim/lcl: $(TOOL_OBJ) $B/sim/train/device.o $(SIM_OBJ) $B/liblcl.a
	@echo '  LINK $@'
	$Q$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(MPI_LIBS) -ldl

# Kernels at shapes of real models, for the counters: tools/cuda-paper.sh.
PAPER := $B/sim/dev/cuda-paper/paper
$(PAPER): $(patsubst %.c,$B/%.o,$(wildcard dev/cuda-paper/*.c)) $B/sim/train/device.o $(SIM_OBJ) $B/liblcl.a
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(MPI_LIBS) -ldl

sim-tests: $(SIM_TEST) $B/sim/lcl $(PAPER)

# In three orders of threads and blocks; whole models in one.
SIM_OPS := $(filter $B/sim/tests/ops/%,$(SIM_TEST))
SIM_SUITE = TEST_TIMEOUT=600 sh $(RUN) suite $(SCORE)
SIM_SUITES = $(SIM_SUITE) emulated $(SIM_TEST); \
    LCL_SIM_SCHEDULE=reverse $(SIM_SUITE) emulated-reverse $(SIM_OPS); \
    LCL_SIM_SCHEDULE=random:1 $(SIM_SUITE) emulated-random $(SIM_OPS); $(PAPER_STEP)

test-cuda-sim: ## the CUDA kernels in the emulator (part of `test`); no GPU, no CUDA toolkit
	@sh tools/setup.sh --dev
	@+$(SUB) CUDA=0 sim-tests
	@sh $(RUN) start $(SCORE)
	@$(SIM_SUITES)
	@sh $(RUN) end $(SCORE)

PAPER_STEP = sh $(RUN) step $(SCORE) 'sectors and banks' env PROGRAM=$(PAPER) sh tools/cuda-paper.sh

paper: ## renew tests/cuda/counters.txt and the tables of dev/cuda-*: kernels on paper
	@sh tools/setup.sh --dev
	@+$(SUB) CUDA=0 $(PAPER)
	@PROGRAM=$(PAPER) sh tools/cuda-paper.sh --write

# The same tests on a real GPU.
GPU_TEST := $(patsubst tests/%.c,$B/gpu/tests/%,$(filter-out $(OF_CPU),$(wildcard tests/ops/test_*.c)) \
            tests/model/test_golden.c \
            $(foreach t,whole profile intrinsics hopper,tests/cuda/test_$t.c))
GPU_TEST_CU := $B/nv/tests/cuda/intrinsics.o $B/nv/tests/cuda/hopper.o
$B/gpu/tests/%: $B/tests/%.o $(TEST_SHARED) $B/tests/support/backend_cuda.o $(GPU_TEST_CU) $(CUDA_OBJ) $B/liblcl.a $B/cuda-setting
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $(filter-out %/cuda-setting,$^) -lcmocka $(LIBS) $(MPI_LIBS) $(CUDA_LIBS)

# On the real NCCL.
NCCL_GPU_TEST := $(if $(NCCL_OBJ),$B/gpu/tests/nccl/test_alone)
$B/gpu/tests/nccl/%: $B/tests/nccl/%.o $B/tests/nccl/alone_gpu.o $(TEST_SHARED) $B/tests/support/backend_cuda.o $(CUDA_OBJ) $(NCCL_OBJ) \
    $B/liblcl.a $B/cuda-setting
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $(filter-out %/cuda-setting,$^) -lcmocka $(LIBS) $(MPI_LIBS) $(CUDA_LIBS) $(NCCL_LIBS)

gpu-tests: $(GPU_TEST) $(NCCL_GPU_TEST)

test-gpu: ## the tests on this machine's GPU (needs nvcc, a driver)
	@sh tools/setup.sh --dev
	@$(if $(filter 1,$(CUDA)),,echo 'test-gpu: nvcc 12.4 or newer is not here'; exit 1)
	@+$(SUB) all gpu-tests
	@sh tools/test-gpu.sh $B

# NCCL's filling against the real libraries, without the kernels: part of `make test` where nvcc is.
$B/tests/nccl/link: $B/tests/nccl/link.o $(NCCL_OBJ) $(patsubst %.c,$B/%.o,$(wildcard core/*.c))
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(CUDA_LIBS) $(NCCL_LIBS)
nccl-links:
	@+$(if $(NCCL_OBJ),$(SUB) $B/tests/nccl/link,echo 'nccl-links: nvcc, an MPI and nccl.h are not all here'; exit 1)
	@$B/tests/nccl/link
NCCL_STEP = $(if $(and $(NVCC_USABLE),$(filter 1,$(NCCL))),sh $(RUN) step $(SCORE) 'NCCL links' \
    $(MAKE) --no-print-directory CUDA=1 CUDA_ARCH=90a B=build/nccl nccl-links)

# Ranks on the GPUs of this node.
test-nccl: ## several ranks on this node's GPUs with NCCL between them: N=8, KILLS=20; DRY=1: on the CPU, to see that it runs
	@sh tools/setup.sh --dev
	@+$(SUB) $(if $(DRY),CUDA=0 )all $(if $(DRY),,$(NCCL_GPU_TEST))
	@DRY='$(DRY)' KILLS='$(KILLS)' STAGES='$(STAGES)' sh tools/test-nccl.sh $B '$(or $(N),8)'

.PHONY: sim-tests test-cuda-sim paper gpu-tests test-gpu nccl-links test-nccl

# Files made from a variable, and made anew only when it changed: $1 the file, $2 the text.
squeeze = $(strip $(subst ",,$1))
define text_rule
ifneq ($$(call squeeze,$$(file <$1)),$$(call squeeze,$2))
$1: FORCE
endif
endef
FORCE:

# Objects depend on their flags, so changed flags rebuild. -Werror is left out: it changes no code.
# The first build checks for the libraries, so that what is missing is said by name and not by the compiler.
FLAGS_TEXT := $(CC) $(CFLAGS_KEPT) $(GEMM) $(GEMM_CFLAGS_$(GEMM)) $(CPU_FLAGS) $(foreach i,$(ISAS),$i $(ISA_FLAGS_$i)) $(LDFLAGS_ALL) $(LIBS)
$(eval $(call text_rule,$B/flags,$$(FLAGS_TEXT)))
$B/flags:
	@CC='$(CC)' sh tools/setup.sh --check
	@mkdir -p $(@D)
	@printf '%s\n' '$(call squeeze,$(FLAGS_TEXT))' > $@

$(eval $(call text_rule,$B/cuda-setting,$$(CUDA_TEXT)))
$B/cuda-setting:
	@mkdir -p $(@D)
	@printf '%s\n' '$(call squeeze,$(CUDA_TEXT))' > $@

$(eval $(call text_rule,$B/mpi-setting,$$(MPI_TEXT)))
$B/mpi-setting:
	@mkdir -p $(@D)
	@printf '%s\n' '$(call squeeze,$(MPI_TEXT))' > $@

# One VERB(name) for each tools/verb_name.c: see tools/cli.h.
VERBS_TEXT := $(foreach v,$(sort $(wildcard tools/verb_*.c)),VERB($(v:tools/verb_%.c=%)))
$(eval $(call text_rule,$B/tools/verbs.inc,$$(VERBS_TEXT)))
$B/tools/verbs.inc:
	@mkdir -p $(@D)
	@printf '%s\n' '$(VERBS_TEXT)' > $@
$B/tools/lcl.o: $B/tools/verbs.inc
$B/tools/lcl.o: EXTRA_CFLAGS := -I$B -DLCL_RELEASE='"$(RELEASE)"' -DLCL_BUILD='"$(MODE), GEMM=$(GEMM)"'

# --- what a person runs. Set-up comes first and the rest in a new make, so that what it installed is seen. ---

SUB  = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
RUN := tools/run-tests.sh
SCORE := build/test-results
# What does not compile is one failed test; the compiler's words stand above.
BUILD_TESTS = $(SUB) CUDA=0 tests $(if $1,sim-tests $B/dist/lcl $B/sim/dev/bench-gpu/bench) || { echo; echo '0 passed, 1 failed'; exit 1; }

setup: ## install what is missing to build (Debian, Ubuntu)
	@sh tools/setup.sh

setup-cuda: ## install or explain what building for NVIDIA GPUs needs
	@sh tools/setup-cuda.sh

demo: ## the main job on real pictures, on the CPU: IMAGES=dir, SEED=n
	@sh tools/setup.sh
	@+$(SUB) CUDA=0 all
	@IMAGES='$(IMAGES)' SEED='$(SEED)' sh tools/demo.sh

ablations-demo: ## the paper's ablations at the demo's size, three seeds, on the CPU; goes on after a stop
	@sh tools/setup.sh
	@+$(SUB) CUDA=0 all
	@sh tools/ablations.sh

any-shot-demo: ## any-shot in-context tuning at the demo's size, three seeds, on the CPU; goes on after a stop
	@sh tools/setup.sh
	@+$(SUB) CUDA=0 all
	@sh tools/any-shot.sh

smollm2: ## SmolLM2-135M learns from its context, on the CPU, and answers in llama.cpp: SEED=n, LLAMA_CPP=1
	@sh tools/setup.sh
	@+$(SUB) CUDA=0 all
	@SEED='$(SEED)' LLAMA_CPP='$(LLAMA_CPP)' PIP_ARGS='$(PIP_ARGS)' sh tools/smollm2.sh

test: ## set-up, build, all tests, sanitizers, lint: TEST_FILTER=word
	@sh tools/setup.sh --dev
	@+$(call BUILD_TESTS,sim)
	@+$(SUB) CUDA=0 run-all

test-quick: ## set-up, build, the tests of a few seconds each, lint
	@sh tools/setup.sh --dev
	@+$(call BUILD_TESTS)
	@+$(SUB) CUDA=0 run-quick

nightly: ## all of `test`, thread sanitizer, OpenBLAS, the long tests
	@sh tools/setup.sh --nightly
	@+$(call BUILD_TESTS,sim)
	@+$(SUB) CUDA=0 run-nightly

RANK_BIN := $(patsubst %.c,$B/%,$(wildcard tests/ranks/slow_*.c)) $B/tests/core/test_sum_tree $B/tests/train/test_launch
test-ranks: ## the tests of several ranks under mpirun (part of `test`): TEST_FILTER=word; NIGHTLY=1: kills and 8 ranks too
	@sh tools/setup.sh --dev
	@+$(SUB) CUDA=0 $B/lcl $(RANK_BIN) $(if $(NIGHTLY),$B/tests/ranks/nightly_kills)
	@sh $(RUN) start $(SCORE)
	@LCL_BIN=$B/lcl sh $(RUN) suite $(SCORE) ranks $(RANK_BIN)
	@$(if $(NIGHTLY),LCL_BIN=$B/lcl TEST_TIMEOUT=7200 sh $(RUN) suite $(SCORE) nightly $B/tests/ranks/nightly_kills)
	@sh $(RUN) end $(SCORE)
.PHONY: test-ranks

fuzz: ## damaged files under libFuzzer: FUZZ=target, FUZZ_SECONDS=10 a target
	@sh tools/setup.sh --fuzz
	@+$(SUB) CUDA=0 run-fuzz

# The clang that links libFuzzer, or nothing.
CLANG = $(shell sh tools/fuzz.sh clang)
FUZZ_PROGRAM := build/libfuzzer/tests/fuzz/libfuzzer
run-fuzz:
	@+$(SUB) MODE=libfuzzer CC=$(CLANG) $(FUZZ_PROGRAM)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) sh tools/fuzz.sh run $(FUZZ_PROGRAM) $(FUZZ)

fuzz-long: ## the same until each target has had FUZZ_SECONDS=3600 of processor time in all; goes on after a stop: FUZZ='target target', FUZZ_JOBS=n
	@sh tools/setup.sh --fuzz
	@+$(SUB) CUDA=0 MODE=libfuzzer CC=$(CLANG) $(FUZZ_PROGRAM)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),3600) FUZZ_JOBS=$(FUZZ_JOBS) sh tools/fuzz.sh long $(FUZZ_PROGRAM) $(FUZZ)

fuzz-record: ## adds what fuzz-long did here to tests/fuzz/ledger.tsv and docs/security.md
	@sh tools/fuzz.sh record $(FUZZ_PROGRAM)
.PHONY: fuzz run-fuzz fuzz-long fuzz-record

test-interop: ## exports read by transformers and llama.cpp, in environments under build/: PIP_ARGS, LLAMA_CPP=0, SMOLLM2=0
	@sh tools/setup.sh
	@+$(SUB) all
	@PIP_ARGS='$(PIP_ARGS)' LLAMA_CPP='$(LLAMA_CPP)' SMOLLM2='$(SMOLLM2)' sh tests/interop/run.sh $B/lcl

# Own products and the lowest instruction set: the same number on every processor of a kind.
signature: ## one number for the maths of a tiny run
	@sh tools/setup.sh --dev >&2
	@+$(SUB) $B/tests/train/signature >&2
	@$(if $(filter v2,$(ISAS)),LCL_CPU_ISA=v2) LCL_GEMM=own $B/tests/train/signature
-include $B/tests/train/signature.d
.PHONY: smollm2 ablations-demo any-shot-demo test-interop signature

tests: $(TEST_BIN) $(SLOW_BIN) $B/lcl ## build the tests

SUITE ?= $(MODE)
# Seconds of damaged files a format; where clang is, its libFuzzer has them, else the address sanitizer's run.
FUZZ_STEP = export FUZZ_SECONDS=$(or $(FUZZ_SECONDS),$1); $(if $(CLANG),\
    sh $(RUN) step $(SCORE) libFuzzer $(MAKE) --no-print-directory FUZZ_SECONDS="$$FUZZ_SECONDS" run-fuzz,\
    FUZZ_FIRST=1000000 TEST_TIMEOUT=2400 sh $(RUN) suite $(SCORE) 'damaged files' build/asan/tests/fuzz/test_fuzz)
# The thread sanitizer takes up to twenty times as long.
LIMIT := $(if $(filter tsan,$(MODE)),600,$(if $(filter asan,$(MODE)),300,120))
QUICK_TESTS = UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan.txt FUZZ_SECONDS=$(or $(FUZZ_SECONDS),1) TEST_TIMEOUT=$(LIMIT) \
    LCL_BIN=$B/lcl sh $(RUN) suite $(SCORE) $(SUITE) $(TEST_BIN)
# The kernels of the lower instruction sets, where the processor has them.
HAS_AVX2 := $(shell grep -qw avx2 /proc/cpuinfo 2>/dev/null && echo yes)
ISA_TESTS := $(filter $B/tests/ops/% $B/tests/model/%,$(TEST_BIN))

run-quick: tests
	@sh $(RUN) start $(SCORE)
	@$(QUICK_TESTS)
	@sh $(RUN) step $(SCORE) lint sh tools/lint.sh
	@sh $(RUN) end $(SCORE)

run-body: tests
	@sh $(RUN) start $(SCORE)
	@sh $(RUN) step $(SCORE) lint sh tools/lint.sh
	@$(QUICK_TESTS)
	@$(if $(filter v2,$(ISAS)),LCL_CPU_ISA=v2 sh $(RUN) suite $(SCORE) x86-64-v2 $(ISA_TESTS))
	@$(if $(HAS_AVX2),LCL_CPU_ISA=v3 sh $(RUN) suite $(SCORE) x86-64-v3 $(ISA_TESTS))
	@LCL_BIN=$B/lcl sh $(RUN) suite $(SCORE) slow $(SLOW_BIN)
	@$(SIM_SUITES)
	@sh $(RUN) step $(SCORE) 'bundle' sh tools/test-dist.sh $B/dist/lcl $(RELEASE) $B/tmp/dist
	@sh $(RUN) step $(SCORE) 'bench-gpu, dry' sh dev/bench-gpu/run.sh $B/sim/dev/bench-gpu/bench $B/tmp/bench-gpu dry
	@sh $(RUN) step $(SCORE) 'ptxas and tensor cores' sh tools/cuda-gates.sh
	@+$(NCCL_STEP)
	@+$(SUB) MODE=asan run-mode
	@+$(SUB) MODE=ubsan run-mode

run-all: run-body
	@+$(call FUZZ_STEP,10)
	@sh $(RUN) end $(SCORE)

# The tests of this MODE, added to the score; a build that fails counts as a failed test.
run-mode:
	@+sh $(RUN) step $(SCORE) 'build for $(SUITE)' $(MAKE) --no-print-directory MODE=$(MODE) $(TEST_BIN) $B/lcl
	@test ! -x $B/lcl || $(QUICK_TESTS)

run-nightly: run-body $(NIGHTLY_BIN)
	@+$(SUB) MODE=tsan run-mode
	@+$(SUB) B=build/openblas GEMM=openblas SUITE=openblas run-mode
	@LCL_BIN=$B/lcl TEST_TIMEOUT=7200 sh $(RUN) suite $(SCORE) nightly $(NIGHTLY_BIN)
	@sh $(RUN) step $(SCORE) 'mutants of the CUDA kernels' sh tools/cuda-mutants.sh
	@+$(if $(NVCC_USABLE),sh $(RUN) step $(SCORE) 'kernels for all architectures' \
	    $(MAKE) --no-print-directory CUDA=1 B=build/all-arch CUDA_ARCH='80 90a 100 120' build/all-arch/lcl)
	@for a in 80 100 120; do sh $(RUN) step $(SCORE) "ptxas for sm_$$a" env ARCH=$$a sh tools/cuda-gates.sh; done
	@+$(call FUZZ_STEP,60)
	@sh $(RUN) end $(SCORE)

$B/dev/bench/bench: $(patsubst %.c,$B/%.o,$(wildcard dev/bench/*.c)) $B/liblcl.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(MPI_LIBS)

bench: ## speed side by side with PyTorch and llama.cpp: dev/bench/, CASES='a b c-small c-large smol lora'
	@sh tools/setup.sh
	@+$(SUB) $B/dev/bench/bench $B/lcl
	@CASES='$(CASES)' sh dev/bench/run.sh

bench-ranks: ## two CPU ranks beside PyTorch's DistributedDataParallel: dev/bench-ranks/
	@sh tools/setup.sh --dev
	@+$(SUB) CUDA=0 all
	@BENCH=dev/bench-ranks/run.py sh dev/bench/run.sh $B/lcl build/bench-ranks

$B/dev/bench-data/bench: $B/dev/bench-data/bench.o $B/liblcl.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(MPI_LIBS)

bench-data: ## episodes a second beside a Python data set: dev/bench-data/, OFFICIAL=DIR names a clone of the official code
	@sh tools/setup.sh
	@+$(SUB) $B/dev/bench-data/bench $B/lcl
	@OFFICIAL='$(OFFICIAL)' sh dev/bench-data/run.sh

# On a GPU, or (DRY=1) on the emulator with tiny shapes.
GPU_BENCH := $(patsubst %.c,$B/%.o,$(wildcard dev/bench-gpu/*.c)) $B/dev/bench/world.o
GPU_PEERS := $(wildcard dev/bench-gpu/*.cu)
$B/dev/bench-gpu/bench: $(GPU_BENCH) $(GPU_PEERS:%.cu=$B/nv/%.o) $(CUDA_OBJ) $B/liblcl.a $B/cuda-setting
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -o $@ $(filter-out %/cuda-setting,$^) $(LIBS) $(MPI_LIBS) $(CUDA_LIBS)

$B/sim/dev/bench-gpu/bench: $(GPU_BENCH) $(GPU_PEERS:%.cu=$B/sim/%.o) $B/sim/train/device.o $(SIM_OBJ) $B/liblcl.a
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CXX) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(MPI_LIBS) -ldl

bench-gpu: ## kernels and whole steps on this machine's GPU, within 8 minutes; DRY=1: on the emulator, to see that it runs
	@sh tools/setup.sh
	@$(if $(or $(DRY),$(filter 1,$(CUDA))),,echo 'bench-gpu: nvcc 12.4 or newer is not here'; exit 1)
	@+$(SUB) $B/$(if $(DRY),sim/)dev/bench-gpu/bench
	@sh dev/bench-gpu/run.sh $B/$(if $(DRY),sim/)dev/bench-gpu/bench $B/bench-gpu/$(if $(DRY),dry dry,results)

gpu-kit: ## the programs of test-gpu and bench-gpu with their libraries, for a machine with a GPU that cannot build them
	@sh tools/setup.sh --dev
	@$(if $(filter 1,$(CUDA)),,echo 'gpu-kit: nvcc 12.4 or newer is not here'; exit 1)
	@+$(SUB) gpu-tests $B/dev/bench-gpu/bench
	@sh tools/gpu-kit.sh $B

docs: $B/lcl ## write docs/config.md anew from the schema
	$B/lcl config --markdown > docs/config.md.new && mv docs/config.md.new docs/config.md

format: ## clang-format all C files
	clang-format -i $(OUR_C)

lint: ## format, include order by room, sizes, READMEs
	@sh tools/lint.sh

install: all ## install lcl and configs under PREFIX (/usr/local)
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/lcl'
	install -m 755 $B/lcl '$(DESTDIR)$(PREFIX)/bin/lcl'
	cp -R configs '$(DESTDIR)$(PREFIX)/share/lcl/'

# Relocatable: libraries beside it. An RPATH also serves the libraries' own libraries, a RUNPATH would not.
# Without MPI, which is its cluster's own, and NCCL, which goes with it.
$B/dist/lcl: CUDA_RPATH :=
$B/dist/comm_mpi.o: train/comm_mpi.c $B/flags
	@mkdir -p $(@D)
	@echo '  CC   $@'
	$Q$(CC) $(CFLAGS_ALL) -c -o $@ $<
$B/dist/lcl: $(TOOL_OBJ) $B/dist/comm_mpi.o $(CUDA_OBJ) $B/liblcl.a $B/cuda-setting
	@mkdir -p $(@D)
	@echo '  LINK $@'
	$Q$(CC) $(LDFLAGS_ALL) -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib' -o $@ $(TOOL_OBJ) $B/dist/comm_mpi.o $(CUDA_OBJ) $B/liblcl.a $(LIBS) $(CUDA_LIBS)

dist: ## pack lcl with its libraries: build/lcl-VERSION-linux-ARCH.tar.gz runs where only glibc (and a driver) is
	@sh tools/setup.sh
	@+$(SUB) $B/dist/lcl
	@$(if $(CUDA_ROOT),LD_LIBRARY_PATH=$(CUDA_ROOT)/lib64) sh tools/dist.sh $B/dist/lcl $(RELEASE) $B

release: $B/lcl ## pack a finished demo's model with its card and checksums: build/lcl-demo-VERSION.tar.gz (DEMO=dir, SEED=n)
	@LCL=$B/lcl sh tools/release.sh $(or $(DEMO),build/demo)/seed-$(or $(SEED),1) $(RELEASE) $B
.PHONY: release

clean: ## remove what was compiled (not downloads, runs and environments)
	rm -rf $(foreach d,build build/debug build/asan build/ubsan build/tsan build/openblas,$(foreach \
	  r,core cpu cuda sim nv model data optim checkpoint train tools tests dist lcl liblcl.a flags tmp test-results,$d/$r))

dist-clean: ## remove build/ as a whole
	rm -rf build

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  %-14s %s\n",$$1,$$2}'

.PHONY: all setup setup-cuda demo test test-quick nightly tests run-quick run-body run-all run-mode run-nightly \
    bench bench-data bench-ranks bench-gpu gpu-kit docs format lint \
        install dist clean dist-clean help FORCE

-include $(CUDA_OBJ:.o=.d) $(NCCL_OBJ:.o=.d)
-include $(wildcard $(foreach d,dev/bench dev/bench-data dev/bench-gpu dev/cuda-paper nv/dev/bench-gpu sim/dev/bench-gpu,$B/$d/*.d))
-include $(NCCL_TEST_OBJ:.o=.d) $B/tests/nccl/alone_gpu.d $B/tests/nccl/link.d $(FUZZ_OBJ:.o=.d) $B/tests/fuzz/libfuzzer.d
-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(TEST_BIN:=.d) $(SLOW_BIN:=.d) $(NIGHTLY_BIN:=.d) $(TEST_LIB:.o=.d) \
         $(SIM_OBJ:.o=.d) $(SIM_TEST_CU:.o=.d) $B/tests/support/backend_sim.d $(SIM_TEST:$B/sim/%=$B/%.d) \
         $B/nv/train/device.d $B/sim/train/device.d
