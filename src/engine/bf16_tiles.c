/*
 * bf16_tiles.c
 *	  Products of bfloat16 on tiles.
 *
 * 32 rows of weights are laid beside each other, two neighbours of each, and meet all rows of x, 32 at a time, before the
 * next: four tiles of sums, two of x as it lies, two of the panel.
 */
#include "bf16_tiles.h"

#include "bf16.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")))
#define INLINE TARGET static inline __attribute__((always_inline))
#include "panel_rows.h"

#define SIDE PANEL_HALF /* of a tile: rows, and columns of four bytes */
#define STEP (2 * SIDE) /* numbers of a row of x in a tile */

/* Of leaf 7 in EDX: AMX-TILE, AMX-BF16. */
#define CPU_TILES (1u << 24)
#define CPU_BF16 (1u << 22)

/* arch_prctl() and the number of the state that tiles are kept in; older headers lack both. */
#define ASK_FOR_STATE 0x1023
#define TILE_STATE 18

bool
tiles_supported(void)
{
	static int supported = -1; /* the same whoever finds it out */
	unsigned a, b, c, d;

	/* not all compilers know these two by name */
	if (supported < 0)
		supported = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & CPU_TILES) && (d & CPU_BF16) &&
					bf16_supported() && syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_STATE) == 0;
	return supported;
}

/* The compiler does not know that instructions on tiles read memory: what is to be read must have been written. */
INLINE void
write_all(void)
{
	__asm__ volatile("" ::: "memory");
}

/* What LDTILECFG reads. */
typedef struct tile_config
{
	uint8_t palette, start, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} tile_config;

/*
 * Tiles 0 to 3 are sums of the first rows with both halves of a panel and of the second rows with them, 4 and 5 rows of
 * x, 6 and 7 the halves.
 */
INLINE void
configure(int first, int second)
{
	tile_config c = {.palette = 1};

	for (int i = 0; i < 8; i++)
	{
		c.row_bytes[i] = 4 * SIDE;
		c.rows[i] = (uint8_t) (i == 0 || i == 1 || i == 4 ? first : i == 2 || i == 3 || i == 5 ? second : SIDE);
	}
	write_all();
	_tile_loadconfig(&c);
}

/* Of each half of the rows of w, of which so many exist, two neighbours of all, k / 2 times. */
INLINE void
lay_panel(const uint16_t *w, int64_t rows, int64_t k, __m512i *out)
{
	int64_t row[PANEL_ROWS];

	begin_rows(rows, (size_t) k * sizeof(uint16_t), row);
	for (int64_t *half = row; half < row + PANEL_ROWS; half += SIDE)
		for (int64_t i = 0; i < k; i += 8, out += 4)
			transpose_rows((const char *) (w + i), half, out);
}

/* A tile of rows of x, or two, with a panel. */
INLINE void
multiply_rows(bool second, const uint16_t *x, int64_t k, const __m512i *panel, const float bias[PANEL_ROWS], float *y,
			  int64_t ldy)
{
	const __m512i *other = panel + k / 2;
	int64_t step = ldy * (int64_t) sizeof(float), x_step = k * (int64_t) sizeof(uint16_t);

	/* rows that lie no bytes apart are the same */
	_tile_loadd(0, bias, 0);
	_tile_loadd(1, bias + SIDE, 0);
	if (second)
	{
		_tile_loadd(2, bias, 0);
		_tile_loadd(3, bias + SIDE, 0);
	}
	for (int64_t i = 0; i < k; i += STEP)
	{
		_tile_loadd(4, x + i, x_step);
		_tile_loadd(6, panel + i / 2, 4 * SIDE);
		_tile_loadd(7, other + i / 2, 4 * SIDE);
		_tile_dpbf16ps(0, 4, 6);
		_tile_dpbf16ps(1, 4, 7);
		if (second)
		{
			_tile_loadd(5, x + SIDE * k + i, x_step);
			_tile_dpbf16ps(2, 5, 6);
			_tile_dpbf16ps(3, 5, 7);
		}
	}
	_tile_stored(0, y, step);
	_tile_stored(1, y + SIDE, step);
	if (second)
	{
		_tile_stored(2, y + SIDE * ldy, step);
		_tile_stored(3, y + SIDE * ldy + SIDE, step);
	}
}

/* At most 2 SIDE rows of x with so many columns of a panel; fewer than there are go by memory of their own. */
INLINE void
multiply_panel(const uint16_t *x, int64_t rows, int64_t k, const __m512i *panel, const float bias[PANEL_ROWS],
			   float *y, int64_t ldy, int64_t columns)
{
	float part[2 * SIDE * PANEL_ROWS], *to = columns < PANEL_ROWS ? part : y;
	int64_t step = columns < PANEL_ROWS ? PANEL_ROWS : ldy;

	if (rows > SIDE)
		multiply_rows(true, x, k, panel, bias, to, step);
	else
		multiply_rows(false, x, k, panel, bias, to, step);
	for (int64_t r = 0; r < rows && columns < PANEL_ROWS; r++)
		memcpy(y + r * ldy, part + r * PANEL_ROWS, (size_t) columns * sizeof(float));
}

TARGET void
tiles_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y, int64_t ldy,
		   int64_t n, void *panel)
{
	for (int64_t j = 0; j < n; j += PANEL_ROWS)
	{
		int64_t columns = n - j < PANEL_ROWS ? n - j : PANEL_ROWS, r = 0;
		float biases[PANEL_ROWS] = {0};

		if (bias)
			memcpy(biases, bias + j, (size_t) columns * sizeof(float));
		lay_panel(w + j * k, columns, k, panel);
		configure(SIDE, SIDE); /* behind all that tiles are loaded from */
		for (; r + 2 * SIDE <= rows; r += 2 * SIDE)
			multiply_panel(x + r * k, 2 * SIDE, k, panel, biases, y + r * ldy + j, ldy, columns);
		if (r == rows)
			continue;
		if (rows - r > SIDE)
			configure(SIDE, (int) (rows - r - SIDE));
		else
			configure((int) (rows - r), SIDE);
		multiply_panel(x + r * k, rows - r, k, panel, biases, y + r * ldy + j, ldy, columns);
	}
	_tile_release();
}

#else

bool
tiles_supported(void)
{
	return false;
}

void
tiles_bf16(const uint16_t *x, int64_t rows, int64_t k, const uint16_t *w, const float *bias, float *y, int64_t ldy,
		   int64_t n, void *panel)
{
}
#endif
