# llmapp: see `make help`.
EXTENSION = llmapp
RELEASE := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" llmapp.control)
MODULE_big = llmapp
DATA = $(wildcard sql/$(EXTENSION)--*.sql)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

REGRESS = $(shell cat tests/regress_schedule)
REGRESS_OPTS = --load-extension=$(EXTENSION)
ISOLATION = $(basename $(notdir $(wildcard tests/isolation/specs/*.spec)))
ISOLATION_OPTS = --load-extension=$(EXTENSION) --inputdir=tests/isolation
TAP_TESTS = 1
PROVE_TESTS ?= tests/tap/*.pl
EXTRA_CLEAN = kernels/build tests/unit/build tests/fuzz/build tests/bench/build

# jansson reads JSON, libpng and libjpeg pictures. BLAS and CUDA are never linked: they are opened at run time.
SHLIB_LINK = -ljansson -lpng -ljpeg -lm -ldl -lpthread -Wl,--version-script=$(srcdir)/src/llmapp.map
WERROR ?= -Werror
PG_CPPFLAGS = -DLLMAPP_VERSION='"$(RELEASE)"'
# Nobody reads errno after a function of math.h; without it sqrtf() is one instruction, of vectors too.
PG_CFLAGS = -O3 -std=gnu11 -fno-math-errno -Wextra $(WERROR) -Wno-unused-parameter -Wno-missing-field-initializers \
	-Wno-sign-compare -Wno-declaration-after-statement

# A machine without PostgreSQL can still run the targets that install it.
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
# Machine code is what we ship: no LLVM bitcode of engine loops beside it.
override with_llvm := no
include $(PGXS)

# The CUDA backend, where there is a compiler for it; without one, or with CUDA=0, the rest is as it is.
NVCC ?= $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA ?= $(if $(NVCC),1,0)
ifneq ($(CUDA),0)
.PHONY: cuda
all: cuda
cuda:
	@$(MAKE) --no-print-directory -C kernels NVCC='$(NVCC)'
install: install-cuda
install-cuda: cuda installdirs
	$(INSTALL_SHLIB) kernels/build/llmapp_cuda.so '$(DESTDIR)$(pkglibdir)/'
uninstall: uninstall-cuda
uninstall-cuda:
	rm -f '$(DESTDIR)$(pkglibdir)/llmapp_cuda.so'
.PHONY: install-cuda uninstall-cuda
endif

# Headers are few: every object depends on all of them.
$(OBJS): $(wildcard src/*.h src/*/*.h src/*/*.def) llmapp.control
endif

C_FILES = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cpp')
PLAIN_C = $(wildcard src/engine/*.c src/format/*.c src/checkpoint/*.c src/feature/*.c src/manifest/*.c src/metrics/*.c src/text/*.c \
	src/constrain/*.c)

.PHONY: demo test packages unit fuzz bench quality format lint dist help
.DEFAULT_GOAL := all

demo: packages
	@tests/demo

test: packages
	@tests/run

packages:
	@tests/packages

unit:
	@$(MAKE) --no-print-directory -C tests/unit check

SECONDS ?= 60
fuzz:
	@$(MAKE) --no-print-directory -C tests/fuzz run SECONDS=$(SECONDS)

bench:
	@tests/bench/run

quality:
	@tests/bench/quality

format:
	clang-format -i $(C_FILES)

# cppcheck does not understand vectors, so it passes over the files that are made of them.
lint:
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --suppress='*:src/engine/simd*' --enable=warning,portability -I src $(PLAIN_C)
	tests/layers

dist:
	git archive --format zip --prefix=$(EXTENSION)-$(RELEASE)/ -o $(EXTENSION)-$(RELEASE).zip HEAD

help:
	@echo 'make demo          install packages if root, build, train on a private server, show the result'
	@echo 'make test          install packages if root, build, run every test'
	@echo 'make               build llmapp.so, and llmapp_cuda.so where nvcc is found (CUDA=0: not)'
	@echo 'make install       install it into the PostgreSQL of PG_CONFIG (DESTDIR is honoured)'
	@echo 'make installcheck  regression, isolation and TAP tests against an installed llmapp'
	@echo 'make unit          unit tests of the engine, the formats and the features; no server'
	@echo 'make fuzz          fuzz every reader of foreign bytes, SECONDS=60 each (clang)'
	@echo 'make bench         speed beside the physical limit and a peer (see docs/performance.md)'
	@echo 'make quality       accuracy with default settings on public data sets beside the known results'
	@echo 'make format        format the C sources        make lint   check formatting, layers, defects'
	@echo 'make dist          zip of the committed tree'
