"""Writes the trained nets as ONNX, with weights of 8 bits and a scale for each output channel.

    python3 export.py CACHE MODEL

CACHE holds ae.pt, flow.pt and enlarger.pt; MODEL gets encoder.onnx, decoder.onnx, words.onnx, flow.onnx, enlarger.onnx and vocabulary.txt.
"""

import io
import pathlib
import sys

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from nets import GRID, LATENT, Decoder, Encoder, Enlarger, Flow, Words
from words import MOST

OPSET = 15
SMALL = 1024  # tensors of fewer numbers stay as they are


def shrink(model):
    """Replaces large weights by bytes, a Cast and a Mul; every runtime folds these when it loads the model."""
    nodes, weights = [], []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < SMALL:
            weights.append(tensor)
            continue
        axes = tuple(range(1, value.ndim))
        scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True), 1e-12) / 127
        name = tensor.name
        weights.append(numpy_helper.from_array(np.round(value / scale).astype(np.int8), name + ".bytes"))
        weights.append(numpy_helper.from_array(scale.astype(np.float32), name + ".scale"))
        nodes.append(helper.make_node("Cast", [name + ".bytes"], [name + ".cast"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [name + ".cast", name + ".scale"], [name]))
    nodes.extend(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(weights)
    model.graph.node.extend(nodes)


def rename(model, net):
    """Gives weights that the exporter renamed their names in the net again."""
    names = {value.numpy().tobytes(): name for name, value in net.state_dict().items()}
    kept = set(net.state_dict())
    new = {t.name: names[t.raw_data] for t in model.graph.initializer if t.name not in kept and t.raw_data in names}
    for tensor in model.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]


def load(folder):
    """Reads written nets back: the same weights that other runtimes compute with."""
    vocabulary = (folder / "vocabulary.txt").read_text().split()
    nets = build(len(vocabulary))
    for name, net in nets.items():
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / f"{name}.onnx").graph.initializer}
        for key, value in net.state_dict().items():
            weight = stored[key] if key in stored else stored[key + ".bytes"].astype(np.float32) * stored[key + ".scale"]
            value.copy_(torch.from_numpy(weight.copy()))
    return nets


def build(words):
    """Makes the nets, for a vocabulary of so many words."""
    nets = {"encoder": Encoder(), "decoder": Decoder(), "words": Words(words + 1), "flow": Flow(), "enlarger": Enlarger()}
    return {name: net.eval() for name, net in nets.items()}


def export(net, path, inputs, outputs, dynamic):
    """Writes one net. inputs: name -> example; dynamic: name -> {axis: name}."""
    buffer = io.BytesIO()
    torch.onnx.export(
        net.float().eval(), tuple(inputs.values()), buffer, opset_version=OPSET, input_names=list(inputs), output_names=outputs,
        dynamic_axes=dynamic, do_constant_folding=True,
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    rename(model, net)
    shrink(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {sorted({n.op_type for n in model.graph.node})}")


def main():
    cache, folder = map(pathlib.Path, sys.argv[1:3])
    folder.mkdir(exist_ok=True)
    vocabulary = (cache / "vocabulary.txt").read_text()
    (folder / "vocabulary.txt").write_text(vocabulary)
    nets = build(len(vocabulary.split()))
    for file in ("ae.pt", "flow.pt", "enlarger.pt"):
        for name, state in torch.load(cache / file, map_location="cpu").items():
            nets[name].load_state_dict(state)
    any_batch = {0: "n"}
    any_size = {0: "n", 2: "h", 3: "w"}
    export(nets["encoder"], folder / "encoder.onnx", {"picture": torch.zeros(1, 3, 128, 128)}, ["latent"], {"picture": any_batch, "latent": any_batch})
    export(nets["decoder"], folder / "decoder.onnx", {"latent": torch.zeros(1, LATENT, GRID, GRID)}, ["picture"], {"latent": any_batch, "picture": any_batch})
    export(nets["words"], folder / "words.onnx", {"numbers": torch.zeros(1, MOST, dtype=torch.long)}, ["condition"], {"numbers": any_batch, "condition": any_batch})
    export(
        nets["flow"], folder / "flow.onnx", {"latent": torch.zeros(1, LATENT, GRID, GRID), "time": torch.zeros(1), "condition": torch.zeros(1, 256)},
        ["velocity"], {name: any_batch for name in ("latent", "time", "condition", "velocity")},
    )
    export(nets["enlarger"], folder / "enlarger.onnx", {"picture": torch.zeros(1, 3, 128, 128)}, ["large"], {"picture": any_size, "large": any_size})


if __name__ == "__main__":
    main()
