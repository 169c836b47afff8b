/*
 * tensor_error.c
 *	  The words for what is wrong with a tensor.
 *
 * One row per status of src/format/tensor_shape.h; reading text adds where, the binary
 * form, arrays and JSON use the row as it stands.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "tensor.h"
#include "tensor_error.h"

static const struct
{
	int sqlstate;
	const char *message;
	const char *hint;
} words[] = {
	[TENSOR_NO_DIMS] = {ERRCODE_DATA_EXCEPTION, "a tensor has at least one dimension", NULL},
	[TENSOR_TOO_DEEP] = {ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a tensor has at most 4 dimensions", NULL},
	[TENSOR_EMPTY] = {ERRCODE_DATA_EXCEPTION, "a dimension of a tensor has at least one element", NULL},
	[TENSOR_TOO_MANY] = {ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a tensor has at most 16777216 elements", NULL},
	[TENSOR_RAGGED] = {ERRCODE_INVALID_TEXT_REPRESENTATION, "lists of one level of a tensor differ in length", NULL},
	[TENSOR_MIXED] = {ERRCODE_INVALID_TEXT_REPRESENTATION, "a tensor cannot hold numbers and lists at one level",
					  NULL},
	[TENSOR_NO_LIST] = {ERRCODE_INVALID_TEXT_REPRESENTATION,
						"invalid input syntax for type tensor: no \"[\" at the start",
						"Write nested lists of numbers, as in '[[1,2],[3,4]]'::tensor, or cast an array, as in "
						"'{1,2}'::real[]::tensor."},
	[TENSOR_NO_VALUE] = {ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "invalid input syntax for type tensor: an element is missing", NULL},
	[TENSOR_NO_COMMA] = {ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "invalid input syntax for type tensor: a \",\" is missing", NULL},
	[TENSOR_UNCLOSED] = {ERRCODE_INVALID_TEXT_REPRESENTATION,
						 "invalid input syntax for type tensor: a \"]\" is missing", NULL},
	[TENSOR_JUNK] = {ERRCODE_INVALID_TEXT_REPRESENTATION,
					 "invalid input syntax for type tensor: text after the last \"]\"", NULL},
	[TENSOR_BAD_NUMBER] = {ERRCODE_INVALID_TEXT_REPRESENTATION, "invalid input syntax for type tensor: not a number",
						   NULL},
	[TENSOR_NOT_FINITE] = {ERRCODE_DATA_EXCEPTION, "NaN and infinity are not allowed in a tensor", NULL},
	[TENSOR_OUT_OF_RANGE] = {ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "number is out of range for type tensor",
							 "Elements are of type real, up to 3.4e38."},
	[TENSOR_BAD_FLAGS] = {ERRCODE_INVALID_BINARY_REPRESENTATION, "binary tensor is of an unknown form", NULL},
	[TENSOR_BAD_LENGTH] = {ERRCODE_INVALID_BINARY_REPRESENTATION,
						   "binary tensor has not as many bytes as its shape needs", NULL},
};

void
ThrowTensorStatus(tensor_status status)
{
	ereport(ERROR, (errcode(words[status].sqlstate), errmsg_internal("%s", words[status].message),
					words[status].hint ? errhint("%s", words[status].hint) : 0));
}

void
RequireShape(int ndim, const int32 *dims, int32 *count)
{
	tensor_status status = tensor_count(ndim, dims, count);

	if (status != TENSOR_OK)
		ThrowTensorStatus(status);
}

/* Where in the text the reader stopped, and what stands there. */
static int
DescribePlace(tensor_status status, const char *text, const tensor_text *reader)
{
	const char *at = reader->cursor;
	int character = pg_mbstrlen_with_len(text, at - text) + 1;
	int clipped = pg_mbcliplen(at, strlen(at), 24);
	int level = reader->nest.depth;

	if (status == TENSOR_RAGGED)
		return errdetail("The list that ends at character %d has length %d, the ones before it %d.", character,
						 reader->nest.filled[level], reader->nest.dims[level]);
	if (*at == '\0')
		return errdetail("At character %d, the end of the text.", character);
	return errdetail("At character %d: \"%.*s\".", character, clipped, at);
}

void
ThrowTensorText(tensor_status status, const char *text, const tensor_text *reader)
{
	ereport(ERROR, (errcode(words[status].sqlstate), errmsg_internal("%s", words[status].message),
					DescribePlace(status, text, reader), words[status].hint ? errhint("%s", words[status].hint) : 0));
}
