"""Draws what the built-in engine (../../native) draws, with PyTorch: a proof that a GPU works, and an example with a model at hand.

Install: torch, numpy and Pillow, such as Debian's python3-torch, python3-numpy and python3-pil.

Configure workerd:

    - name: twin
      kind: exec
      command: [python3, workerd/engine/exec/examples/native_twin.py]
      tasks: [single_image]
      device: cuda:0      # or cpu

It takes the weights, the nets, the words and the noise from the folder of the built-in engine, so that prompt and seed give the same
picture, up to rounding. The params of a task are prompt, seed and size; sizes are square.
"""

import argparse
import pathlib
import sys
import time

import darkroom_engine

STEPS, GUIDANCE = 5, 2.0  # as the built-in engine's calibration.go has them
SIDE = 512  # of a picture as the nets make it, in pixels


def arguments():
    parser = argparse.ArgumentParser(description="An exec engine with the nets of the built-in engine.")
    parser.add_argument("--native", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "native", help="its folder")
    parser.add_argument("--model", type=pathlib.Path, help="folder of the weights; that of the built-in engine when missing")
    parser.add_argument("--device", help="such as cuda:0 or cpu; the first GPU when missing, else the CPU")
    parser.add_argument("--threads", type=int, default=1, help="cores to use on the CPU")
    return parser.parse_args()


def fields(data):
    """Reads a message of Protocol Buffers: its fields' numbers and values, in order."""

    def varint(at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        elif key & 7 == 2:
            length, at = varint(at)
            value, at = data[at : at + length], at + length
        else:
            length = {1: 8, 5: 4}[key & 7]
            value, at = data[at : at + length], at + length
        yield key >> 3, value


def weights(path):
    """Reads the weights of an ONNX file (onnx.proto3 of ONNX 1.12), by name. Those of 8 bits are multiplied by their scale."""
    import numpy as np

    kinds = {1: np.float32, 3: np.int8, 7: np.int64}
    stored, same = {}, []
    graph = next(bytes(value) for number, value in fields(memoryview(path.read_bytes())) if number == 7)
    for number, value in fields(memoryview(graph)):
        if number == 1:  # a node
            parts = list(fields(value))
            if any(part == 4 and bytes(kind) == b"Identity" for part, kind in parts):  # a weight that is equal to another
                same.append([next(bytes(name).decode() for part, name in parts if part == wanted) for wanted in (1, 2)])
        elif number == 5:  # a weight
            tensor = {8: b"", 9: b""}
            shape = []
            for part, content in fields(value):
                if part == 1:
                    shape += [content] if isinstance(content, int) else [dim for dim in content]
                else:
                    tensor[part] = content
            stored[bytes(tensor[8]).decode()] = np.frombuffer(tensor[9], kinds[tensor[2]]).reshape(shape)
    for name in [name[: -len(".bytes")] for name in stored if name.endswith(".bytes")]:
        stored[name] = stored.pop(name + ".bytes").astype(np.float32) * stored.pop(name + ".scale")
    for name, alias in same:
        stored.setdefault(alias, stored[name])
    return stored


def fill(net, path):
    """Loads the weights of a file into a net."""
    import torch

    stored = weights(path)
    known = net.state_dict()
    # What the exporter computed ahead has lost its name: it is found by its shape.
    nameless = [name for name in stored if name not in known]
    loaded = {}
    for name, weight in known.items():
        if name not in stored:
            fitting = [other for other in nameless if stored[other].shape == tuple(weight.shape)]
            if len(fitting) != 1:
                raise ValueError(f"{path.name} has no {name}")
            stored[name] = stored[fitting[0]]
        loaded[name] = torch.from_numpy(stored[name].copy())
    net.load_state_dict(loaded)
    return net.eval()


class Model:
    """The nets on a device."""

    def __init__(self, native, folder, device):
        import torch

        sys.path.insert(0, str(native / "train"))
        import nets
        import noise
        import words

        self.torch, self.normal, self.words, self.device, self.nets = torch, noise.normal, words, device, nets
        self.vocabulary = {word: number for number, word in enumerate((folder / "vocabulary.txt").read_text().split(), 1)}
        if device != "cpu":
            torch.backends.cudnn.allow_tf32 = False  # the same picture as in single precision
            if hasattr(torch, "set_default_device"):  # torch 2; for the constants that the nets make
                torch.set_default_device(device)
            else:
                torch.set_default_tensor_type(torch.cuda.FloatTensor)
        made = {"words": nets.Words(len(self.vocabulary) + 1), "flow": nets.Flow(), "decoder": nets.Decoder(), "enlarger": nets.Enlarger()}
        self.net = {name: fill(net, folder / f"{name}.onnx").to(device) for name, net in made.items()}

    def draw(self, numbers, seed, each):
        """Draws a picture: rows of pixels of three bytes. each(step) is called before each step."""
        torch = self.torch
        with torch.no_grad():
            table = torch.zeros(1, self.words.MOST, dtype=torch.long, device=self.device)
            table[0, : len(numbers)] = torch.tensor(numbers, device=self.device)
            condition, nothing = self.net["words"](table), self.net["words"](torch.zeros_like(table))
            shape = (1, self.nets.LATENT, self.nets.GRID, self.nets.GRID)
            count = shape[1] * shape[2] * shape[3]
            latent = torch.from_numpy(self.normal(seed, count)).view(shape).to(self.device)
            before = None
            for step in range(STEPS):
                each(step)
                t = torch.full((1,), 1 - step / STEPS, device=self.device)
                without = self.net["flow"](latent, t, nothing)
                velocity = without + GUIDANCE * (self.net["flow"](latent, t, condition) - without)
                # Within a step the velocity goes on changing as it did (Adams and Bashforth).
                latent = latent - (velocity if before is None else 1.5 * velocity - 0.5 * before) / STEPS
                before = velocity
            each(STEPS)
            large = self.net["enlarger"](self.net["decoder"](latent).clamp(-1, 1))
            return (large[0].permute(1, 2, 0) * 127.5 + 128).clamp(0, 255).byte().cpu().numpy()


def main():
    args = arguments()
    worker = darkroom_engine.connect()
    import torch
    from PIL import Image

    torch.set_num_threads(args.threads)
    device = args.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    model = Model(args.native, args.model or args.native / "model", device)
    model.draw([1], 0, lambda step: None)  # warm

    def run(task):
        size = task.size((SIDE, SIDE))
        if size[0] != size[1] or not 64 <= size[0] <= 2048:
            raise darkroom_engine.BadInput("The size cannot be used: this engine makes squares of 64 to 2048 pixels.")
        numbers, unknown = model.words.encode(task.prompt(), model.vocabulary)
        if not numbers:
            raise darkroom_engine.BadInput("The prompt has no word that this engine knows: it draws emoji, so name one, such as red apple.")

        def each(step):
            task.check()
            task.progress(step, STEPS + 1, "drawing")

        began = time.perf_counter()
        picture = Image.fromarray(model.draw(numbers, task.seed(), each))
        seconds = time.perf_counter() - began
        if size != picture.size:
            picture = picture.resize(size, Image.BICUBIC)
        picture.save(task.out_dir / "output.png")
        return "output.png", {
            "width": size[0], "height": size[1], "seed": task.seed(), "steps": STEPS, "seconds": round(seconds, 4), "unknown_words": unknown,
            "method": "rectified_flow", "device": device, "torch": torch.__version__,
        }

    worker.serve(run, task_types=["single_image"], device=device)


if __name__ == "__main__":
    main()
