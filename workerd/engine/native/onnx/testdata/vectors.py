"""Computes vectors.json: small models, exported as the trained nets are, and what PyTorch says that they give.

    PYTHONPATH=../../train python3 vectors.py > vectors.json
"""

import base64
import io
import json
import sys

import onnx
import torch
from torch import nn

import export
from nets import Block, Enlarger, Words, conv, norm

torch.manual_seed(1)


class Call(nn.Module):
    """A module out of a function and the modules that it uses."""

    def __init__(self, call, *parts):
        super().__init__()
        self.call, self.parts = call, nn.ModuleList(parts)

    def forward(self, *inputs):
        return self.call(*self.parts, *inputs)


def randomized(net):
    """Gives every weight a value other than 0."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


def numbers(tensor):
    flat = tensor.flatten().tolist()
    if tensor.dtype == torch.long:
        return {"shape": list(tensor.shape), "ints": flat}
    return {"shape": list(tensor.shape), "floats": [float(f"{x:.7g}") for x in flat]}


def vector(name, net, *inputs, small=1 << 30):
    """Exports a net, with weights as bytes where they have at least small numbers, and runs it."""
    net = randomized(net)
    export.SMALL = small
    buffer = io.BytesIO()
    names = [f"x{i}" for i in range(len(inputs))]
    torch.onnx.export(net, inputs, buffer, opset_version=export.OPSET, input_names=names, output_names=["y"], dynamic_axes={n: {0: "n"} for n in names + ["y"]})
    model = onnx.load_model_from_string(buffer.getvalue())
    if small < 1 << 30:
        export.shrink(model)
        rounded = {t.name[: -len(".bytes")] for t in model.graph.initializer if t.name.endswith(".bytes")}
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if key in rounded:
                    scale = parameter.abs().amax(dim=tuple(range(1, parameter.ndim)), keepdim=True).clamp(min=1e-12) / 127
                    parameter.copy_((parameter / scale).round() * scale)
    for node in model.graph.node:
        node.ClearField("name")
    with torch.no_grad():
        output = net(*inputs)
    return {
        "name": name, "model": base64.b64encode(model.SerializeToString()).decode(),
        "inputs": [numbers(x) for x in inputs], "output": numbers(output),
    }


def main():
    r = torch.randn
    vectors = [
        vector("convolution 3x3 of an odd size", conv(2, 7), r(1, 2, 3, 5)),
        vector("convolution 3x3 of width 8", conv(3, 5), r(2, 3, 4, 8)),
        vector("convolution 3x3 of width 16", conv(2, 6), r(1, 2, 2, 16)),
        vector("convolution 1x1", conv(3, 8, 1), r(1, 3, 4, 4)),
        vector("convolution deeper than a block", conv(70, 2), r(1, 70, 2, 3)),
        vector("convolution with weights of 8 bits", conv(4, 3), r(1, 4, 2, 8), small=16),
        vector("convolution and SiLU", nn.Sequential(conv(2, 3), nn.SiLU()), r(1, 2, 4, 8)),
        vector("convolution and a value of another shape", Call(lambda c, x, y: y + c(x), conv(2, 3)), r(2, 2, 2, 8), r(1, 3, 1, 1)),
        vector("linear layer", nn.Linear(5, 19), r(3, 5)),
        vector("norm", Call(norm), r(2, 3, 2, 3)),
        vector("residual block", Block(3), r(1, 3, 4, 4)),
        vector("residual block with a condition", Block(4, 5), r(2, 4, 2, 4), r(2, 5)),
        vector("pixel shuffle", nn.PixelShuffle(2), r(2, 8, 2, 3)),
        vector("pixel unshuffle", nn.PixelUnshuffle(2), r(2, 2, 4, 6)),
        vector("enlarger", Enlarger(2), r(1, 3, 2, 3)),
        vector("words", Words(12, 4, 6), torch.tensor([[3, 11, 0, 0], [0, 0, 0, 0], [5, 5, 1, 0]])),
        vector("sines", Call(lambda t: torch.cat([(t[:, None] * torch.linspace(0, 2, 3)[None]).sin(), t[:, None].cos()], 1)), r(2)),
        vector("arithmetic", Call(lambda x, y: (x - y) / (y * y + 1.5)), r(2, 3, 2), r(2, 1, 2)),
        vector("view", Call(lambda x: x.view(-1, 2, 3)), r(2, 6)),
    ]
    json.dump(vectors, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
