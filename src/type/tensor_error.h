/*
 * tensor_error.h
 *	  Errors of reading a tensor's text.
 */
#ifndef LLMAPP_TENSOR_ERROR_H
#define LLMAPP_TENSOR_ERROR_H

#include "../compat.h"
#include "../format/tensor_text.h"

/* Raise `status`, with the place where the reader of `text` stopped as DETAIL. */
pg_noreturn extern void ThrowTensorText(tensor_status status, const char *text, const tensor_text *reader);

#endif /* LLMAPP_TENSOR_ERROR_H */
