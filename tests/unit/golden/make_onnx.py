#!/usr/bin/env python3
"""Small random networks as ONNX files and what ONNX Runtime makes of some rows, for test_onnx_network.c and import_onnx.pl.

Needs PyTorch, onnx and onnxruntime; the tests need none: tests/unit/golden/make_onnx.py makes the files in onnx/ again.
NAME.onnx comes with NAME.json: "params" for llm_import(), "inputs" (rows, numbers), "outputs" (rows, outputs), where a
network of two classes by one output has the probability of the second.
"""
import json
import os
import warnings
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

warnings.filterwarnings('ignore')
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'onnx')
ROWS = 8
random = np.random.default_rng(5)


class Mlp(nn.Module):
    """Layer norm, a residual around a linear layer, softmax."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b, self.out = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        h = nn.functional.gelu(self.norm(self.a(x)))
        h = h + self.drop(nn.functional.silu(self.b(h)))
        return torch.softmax(self.out(h), 1)


class Cnn(nn.Module):
    """Convolutions, batch and group norm, both pools, flattened pixels."""

    def __init__(self):
        super().__init__()
        self.a, self.batch = nn.Conv2d(2, 4, (3, 5), padding=(1, 2)), nn.BatchNorm2d(4, eps=1e-3)
        self.b, self.group = nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.GroupNorm(3, 6)
        self.flat, self.out = nn.Linear(6 * 2 * 2, 10), nn.Linear(10, 4)

    def forward(self, x):
        h = nn.functional.max_pool2d(torch.relu(self.batch(self.a(x))), 3, stride=2, padding=1)
        h = nn.functional.gelu(self.group(self.b(h)), approximate='tanh')
        h = nn.functional.avg_pool2d(h, 2, stride=1)
        h = h.view(h.size(0), -1)
        return self.out(torch.tanh(self.flat(h)))


class Net(nn.Module):
    """One number by the mean of each channel."""

    def __init__(self):
        super().__init__()
        self.a, self.out = nn.Conv2d(1, 3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return torch.sigmoid(self.out(torch.sigmoid(self.a(x)).mean((2, 3)))).squeeze(1)


def randomise(model):
    model.eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for name, b in model.named_buffers():
            if name.endswith('running_mean'):
                b.copy_(0.5 * torch.randn_like(b))
            elif name.endswith('running_var'):
                b.copy_(0.5 + torch.rand_like(b))
    return model


def exported(name, model, shape, dynamo, opset=None):
    path = os.path.join(FOLDER, name + '.onnx')
    x = torch.randn(2, *shape)
    if dynamo:
        torch.onnx.export(randomise(model), (x,), path, dynamo=True, external_data=False, verbose=False,
                          dynamic_shapes=({0: torch.export.Dim('rows')},))
    else:
        torch.onnx.export(randomise(model), (x,), path, dynamo=False, input_names=['x'], opset_version=opset,
                          dynamic_axes={'x': {0: 'rows'}})
    strip(onnx.load(path), path)


def strip(model, path):
    """Without what writers say of the program that they read."""
    for part in [model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        del part.metadata_props[:]
        part.doc_string = ''
    del model.graph.value_info[:]
    del model.metadata_props[:]
    onnx.save(model, path)


def weight(*shape):
    return random.standard_normal(shape).astype(np.float32) * 0.5


def built(name, shape, outputs, nodes, tensors, opset, batch='rows'):
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info('x', TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [batch, *outputs])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, os.path.join(FOLDER, name + '.onnx'))


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def table():
    """Two numbers of four columns, with the linear layers that others than PyTorch write."""
    tensors = dict(w1=weight(4, 6), b1=weight(6), w2=weight(6, 6), b2=weight(1, 6), w3=weight(2, 12), c=weight(1))
    built('table', [4], [2], [
        node('MatMul', 'x w1', 'h1'), node('Add', 'b1 h1', 'h2'), node('Tanh', 'h2', 'h3'),
        node('Gemm', 'h3 w2 b2', 'h4', alpha=0.5, beta=2.0), node('Relu', 'h4', 'h5'),
        node('Concat', 'h5 h3', 'h6', axis=-1), node('Dropout', 'h6', 'h7'),
        node('Gemm', 'h7 w3 c', 'y', transB=1)], tensors, 13)


def forms():
    """Ways to say the same: shapes that are computed, constants in nodes, padding by words, an end without weights."""
    tensors = dict(w1=weight(4, 2, 3, 3), b1=weight(4), scale=1 + weight(4), shift=weight(4), mean=weight(4),
                   var=(1 + weight(4) ** 2), w2=weight(4, 4, 1, 1), b2=weight(4, 1, 1), g=1 + weight(4), h=weight(4),
                   w3=weight(4 * 3 * 3, 5), b3=weight(5), w4=weight(5, 5))
    built('forms', [2, 6, 6], [5], [
        node('Conv', 'x w1 b1', 'a', auto_pad='SAME_UPPER'),
        node('Identity', 'var', 'variance'),
        node('BatchNormalization', 'a scale shift mean variance', 'b', epsilon=1e-3),
        node('Conv', 'b w2', 'c0'), node('Add', 'c0 b2', 'c'),
        node('InstanceNormalization', 'c g h', 'd'), node('Add', 'd b', 'e'), node('Sigmoid', 'e', 's'),
        node('Mul', 's e', 'f'), node('MaxPool', 'f', 'p', kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node('Shape', 'p', 'p_shape'), helper.make_node('Constant', [], ['zero'], value=numpy_helper.from_array(np.array(0))),
        node('Gather', 'p_shape zero', 'batch0', axis=0),
        helper.make_node('Constant', [], ['axes'], value=numpy_helper.from_array(np.array([0]))),
        node('Unsqueeze', 'batch0 axes', 'batch'),
        helper.make_node('Constant', [], ['rest'], value=numpy_helper.from_array(np.array([-1]))),
        node('Concat', 'batch rest', 'flat_shape', axis=0), node('Reshape', 'p flat_shape', 'flat'),
        node('Gemm', 'flat w3 b3', 'q'), node('MatMul', 'q w4', 'r'), node('Relu', 'r', 'r2'), node('Add', 'q r2', 'y'),
    ], tensors, 13, batch=1)


def golden(name, params):
    path = os.path.join(FOLDER, name + '.onnx')
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    shape = session.get_inputs()[0].shape[1:]
    x = random.standard_normal((ROWS, *shape)).astype(np.float32)
    fixed = isinstance(session.get_inputs()[0].shape[0], int)
    run = [session.run(None, {session.get_inputs()[0].name: r})[0] for r in (np.split(x, ROWS) if fixed else [x])]
    out = np.concatenate(run).reshape(ROWS, -1)
    with open(os.path.join(FOLDER, name + '.json'), 'w') as f:
        json.dump({'params': params, 'inputs': x.reshape(ROWS, -1).tolist(), 'outputs': out.tolist()}, f)
        f.write('\n')
    print(name, os.path.getsize(path), 'bytes')


if __name__ == '__main__':
    os.makedirs(FOLDER, exist_ok=True)
    torch.manual_seed(3)
    exported('mlp', Mlp(), [6], False)
    exported('mlp_dynamo', Mlp(), [6], True)
    exported('cnn', Cnn(), [2, 14, 13], False)
    exported('cnn_dynamo', Cnn(), [2, 14, 13], True)
    exported('binary', Net(), [1, 7, 8], True)
    table()
    forms()
    exported('mlp_17', Mlp(), [6], False, 17)
    classes = {'classes': ['north', 'east', 'south', 'west'], 'target': 'wind', 'input': {'name': 'picture'}}
    golden('mlp', {'classes': ['b', 'c', 'a']})
    golden('mlp_dynamo', {})
    golden('cnn', classes)
    golden('cnn_dynamo', classes)
    golden('binary', {'classes': ['yes', 'no']})
    golden('table', {'input': {'columns': ['w', 'x', 'y', 'z']}, 'target': 'sum'})
    golden('forms', {})
    golden('mlp_17', {})
