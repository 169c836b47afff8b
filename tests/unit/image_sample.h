/*
 * image_sample.h
 *	  Pictures written for tests and as first inputs of the fuzz target: PNG and JPEG files
 *	  in memory, made by the libraries' own writers.
 */
#ifndef LLMAPP_IMAGE_SAMPLE_H
#define LLMAPP_IMAGE_SAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

typedef struct sample_file
{
	uint8_t *bytes; /* free() it */
	size_t size;
} sample_file;

/* What a PNG is to be; zero fields are left out. */
typedef struct sample_png
{
	int width;
	int height;
	int color; /* PNG_COLOR_TYPE_... */
	int depth;
	bool interlaced;
	const png_color *palette;
	int colors;           /* of the palette */
	const uint8_t *alpha; /* of the palette's colors */
	int alphas;
	const png_color_16 *transparent; /* the color that is none */
} sample_png;

static inline void
sample_png_write(png_structp png, png_bytep bytes, size_t count)
{
	sample_file *file = png_get_io_ptr(png);

	file->bytes = realloc(file->bytes, file->size + count);
	memcpy(file->bytes + file->size, bytes, count);
	file->size += count;
}

static inline void
sample_png_flush(png_structp png)
{
}

/* A PNG of packed rows, as libpng takes them: 16 bits big-endian. */
static inline sample_file
sample_png_file(const sample_png *s, const uint8_t *rows)
{
	sample_file file = {NULL, 0};
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png_create_info_struct(png);
	png_bytep *lines = malloc(s->height * sizeof(png_bytep));
	size_t row_bytes;

	png_set_write_fn(png, &file, sample_png_write, sample_png_flush);
	png_set_IHDR(png, info, s->width, s->height, s->depth, s->color,
				 s->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
				 PNG_FILTER_TYPE_DEFAULT);
	if (s->palette != NULL)
		png_set_PLTE(png, info, s->palette, s->colors);
	if (s->alpha != NULL || s->transparent != NULL)
		png_set_tRNS(png, info, s->alpha, s->alphas, s->transparent);
	png_write_info(png, info);
	row_bytes = png_get_rowbytes(png, info);
	for (int y = 0; y < s->height; y++)
		lines[y] = (png_bytep) rows + y * row_bytes;
	png_write_image(png, lines);
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	free(lines);
	return file;
}

/* A JPEG of interleaved samples of the given color space; progressive on demand. */
static inline sample_file
sample_jpeg_file(int width, int height, J_COLOR_SPACE color, int quality, bool progressive, const uint8_t *rows)
{
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	sample_file file = {NULL, 0};
	unsigned long size = 0;

	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_compress(&jpeg);
	jpeg_mem_dest(&jpeg, &file.bytes, &size);
	jpeg.image_width = width;
	jpeg.image_height = height;
	jpeg.in_color_space = color;
	jpeg.input_components = color == JCS_GRAYSCALE ? 1 : color == JCS_RGB ? 3 : 4;
	jpeg_set_defaults(&jpeg);
	jpeg_set_quality(&jpeg, quality, TRUE);
	if (progressive)
		jpeg_simple_progression(&jpeg);
	jpeg_start_compress(&jpeg, TRUE);
	while (jpeg.next_scanline < jpeg.image_height)
	{
		JSAMPROW row = (JSAMPROW) rows + (size_t) jpeg.next_scanline * width * jpeg.input_components;

		jpeg_write_scanlines(&jpeg, &row, 1);
	}
	jpeg_finish_compress(&jpeg);
	jpeg_destroy_compress(&jpeg);
	file.size = size;
	return file;
}

#endif /* LLMAPP_IMAGE_SAMPLE_H */
