/*
 * tensor_image.c
 *	  llm_image(): a picture's file to a tensor (channels, height, width).
 *
 * Reading pictures is src/format/image.h.  The tensor is made between the header and the
 * pixels, so that an ERROR never meets memory of the decoders.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "../format/image.h"
#include "../common.h"
#include "tensor.h"

PG_FUNCTION_INFO_V1(llm_image);

/* An optional length: 0 for NULL. */
static int32
ReadSide(FunctionCallInfo fcinfo, int argument, const char *name)
{
	int32 side = PG_ARGISNULL(argument) ? 0 : PG_GETARG_INT32(argument);

	if (!PG_ARGISNULL(argument) && (side < 1 || side > IMAGE_MAX_SIDE))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be between 1 and %d, not %d", name, IMAGE_MAX_SIDE, side)));
	return side;
}

static int32
ReadChannels(FunctionCallInfo fcinfo, int argument)
{
	int32 channels = PG_ARGISNULL(argument) ? 0 : PG_GETARG_INT32(argument);

	if (!PG_ARGISNULL(argument) && channels != 1 && channels != 3)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("channels must be 1 or 3, not %d", channels),
						errdetail("1 is grey; 3 are red, green and blue.")));
	return channels;
}

/* llm_image(data bytea, width int, height int, channels int) */
Datum
llm_image(PG_FUNCTION_ARGS)
{
	image_shape picture;
	image_shape wanted;
	llm_error error = {.code = LLM_OK};
	bytea *data;
	const uint8 *bytes;
	Size size;
	Tensor *tensor;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	wanted.width = ReadSide(fcinfo, 1, "width");
	wanted.height = ReadSide(fcinfo, 2, "height");
	wanted.channels = ReadChannels(fcinfo, 3);
	data = PG_GETARG_BYTEA_PP(0);
	bytes = (const uint8 *) VARDATA_ANY(data);
	size = VARSIZE_ANY_EXHDR(data);

	if (!image_probe(bytes, size, &picture, &error) || !image_fit(&picture, &wanted, &error))
		ThrowError(&error);
	tensor = MakeTensor(3, (int32[]) {wanted.channels, wanted.height, wanted.width});
	if (!image_decode(bytes, size, &wanted, TensorData(tensor), InterruptRequested, NULL, &error))
	{
		CHECK_FOR_INTERRUPTS();
		ThrowError(&error);
	}
	PG_FREE_IF_COPY(data, 0);
	PG_RETURN_TENSOR_P(tensor);
}
