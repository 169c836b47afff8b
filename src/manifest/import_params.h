/*
 * import_params.h
 *	  What a user says about a file of tensors, so that it becomes a model: the parameters of
 *	  llm_import().
 *
 *	"layers"   list of layers as layers.h reads it, but with the output as the last: a linear layer
 *	"task"     "classification" (default) or "regression"
 *	"classes"  labels in the order of the outputs, default "0", "1", ...
 *	"input"    {"name": "input", "shape": [n] or [channels, height, width], "mean": 0, "std": 1}; mean
 *	           and std are numbers, or arrays with one for each element of the first dimension.  In place
 *	           of a name, "columns": [n names] of columns with one number each
 *	"target"   name of the column that is predicted, "label"
 *	"layout"   "pytorch" (default) or "tensorflow", as exchange.h describes them
 *	"tensors"  {name: name in the file}; name is that of a layer, standing for all of its tensors, or
 *	           "layer.weight", ...
 *
 * The tensors of a layer are called name.weight, name.bias, name.running_mean and
 * name.running_var; a layer without a name has its number from 0, as in PyTorch's nn.Sequential.
 */
#ifndef LLMAPP_IMPORT_PARAMS_H
#define LLMAPP_IMPORT_PARAMS_H

#include "../checkpoint/onnx_network.h"
#include "manifest.h"
#include "tensor_file.h"

/* An ONNX file says itself what "layers", "layout", "tensors" and the shape of "input" are, and its task if it can. */
typedef struct import_plan
{
	const char *task, *architecture; /* as a manifest has them */
	net *net;
	encoder *encoder;
	target *target;
	json_t *settings; /* as a manifest has them */

	net *file_net;      /* the same network with as many outputs as the file has */
	exchange file;      /* of file_net */
	onnx_network *onnx; /* NULL: the file is one of named tensors */
	char **names;       /* by tensor of file_net; NULL: all 0 */
	int32_t *rows;      /* class i of target is output rows[i] of the file; NULL: numbers */
} import_plan;

/* NULL: LLM_INVALID naming the parameter, LLM_MEMORY. */
extern import_plan *import_plan_new(const json_t *params, llm_error *err);
/* The same of an ONNX file, as onnx_source() reads it; or as onnx_network_new() fails.  source stays as long as the plan. */
extern import_plan *import_plan_onnx(const json_t *graph, const tensor_source *source, const json_t *params,
									 llm_error *err);
extern void import_plan_free(import_plan *p);

/* Weights for p->net, net_weight_bytes() of them, malloc'd.  Fails as tensor_file_read() does. */
extern float *import_plan_read(const import_plan *p, const safetensors *file, llm_poll poll, void *arg,
							   llm_error *err);
extern float *import_plan_read_onnx(const import_plan *p, const tensor_source *source, llm_poll poll, void *arg,
									llm_error *err);

#endif /* LLMAPP_IMPORT_PARAMS_H */
