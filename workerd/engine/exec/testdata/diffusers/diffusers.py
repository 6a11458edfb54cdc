"""As much of diffusers as examples/diffusers_image.py uses, with the names and signatures of the real one. The prompt says what happens."""

import struct
import time
import types
import zlib

import torch

print("Loading pipeline components...")


class Picture:
    def __init__(self, width, height):
        self.width, self.height = width, height

    def save(self, path):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        rows = b"".join(b"\0" + b"\x7f" * self.width for _ in range(self.height))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class AutoPipelineForText2Image:
    @classmethod
    def from_pretrained(cls, model, torch_dtype=None):
        assert model == "some/model" and torch_dtype == "float32"
        return cls()

    def to(self, device):
        assert device == "cpu"
        return self

    def set_progress_bar_config(self, disable):
        assert disable

    def __call__(self, prompt, num_inference_steps=20, width=64, height=64, generator=None, callback_on_step_end=None, negative_prompt=None):
        if prompt == "too much":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if prompt == "broken":
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        assert generator.seed >= 0
        self._interrupt, self.num_timesteps = False, num_inference_steps
        for step in range(num_inference_steps):
            if self._interrupt:
                continue
            print("step", step)
            time.sleep(0.05 if prompt == "slow" else 0)
            callback_on_step_end(self, step, 1000 - step, {"latents": None})
        return types.SimpleNamespace(images=[Picture(width, height)])
