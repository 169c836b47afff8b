# llmapp: see `make help`.
EXTENSION = llmapp
VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" llmapp.control)
MODULE_big = llmapp
DATA = $(wildcard sql/$(EXTENSION)--*.sql)
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c))

REGRESS = $(shell cat tests/regress_schedule)
REGRESS_OPTS = --load-extension=$(EXTENSION)
ISOLATION = $(basename $(notdir $(wildcard tests/isolation/specs/*.spec)))
ISOLATION_OPTS = --load-extension=$(EXTENSION) --inputdir=tests/isolation
TAP_TESTS = 1
PROVE_TESTS ?= tests/tap/*.pl

# The jansson library reads JSON. BLAS and CUDA are never linked: they are opened at run time.
SHLIB_LINK = -ljansson -lm -ldl -lpthread
WERROR ?= -Werror
PG_CPPFLAGS = -DLLMAPP_VERSION='"$(VERSION)"'
PG_CFLAGS = -O3 -std=gnu11 -Wextra $(WERROR) -Wno-unused-parameter -Wno-missing-field-initializers \
	-Wno-sign-compare -Wno-declaration-after-statement

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
# Machine code is what we ship: no LLVM bitcode of engine loops beside it.
override with_llvm := no
include $(PGXS)

# Headers are few: every object depends on all of them.
$(OBJS): $(wildcard src/*.h src/*/*.h src/*/*.def) llmapp.control
