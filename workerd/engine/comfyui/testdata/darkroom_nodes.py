"""Nodes for the live test of Darkroom's engine comfyui: copy this file into ComfyUI's folder custom_nodes.

DarkroomSlow runs a small convolution net over a picture, step by step, with progress and previews, and can fail on purpose.
"""

import time

import torch
from PIL import Image

import comfy.utils


class DarkroomSlow:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE",),
                "seed": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF}),
                "steps": ("INT", {"default": 4, "min": 1, "max": 1000}),
                "step_seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0}),
                "failure": (["", "ValueError", "OSError", "memory", "cuda"],),
                "latent_image": ("STRING", {"default": ""}),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "darkroom"

    def run(self, images, seed, steps, step_seconds, failure, latent_image):
        generator = torch.Generator().manual_seed(seed % 2**63)
        net = torch.nn.Conv2d(3, 3, 5, padding=2)
        with torch.no_grad():
            net.weight.copy_(torch.randn(net.weight.shape, generator=generator) * 0.2)
        picture = torch.rand(images.shape, generator=generator).movedim(-1, 1)
        target = images.movedim(-1, 1)
        progress = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            time.sleep(step_seconds)
            picture = 0.7 * picture + 0.2 * torch.sigmoid(net(picture)) + 0.1 * target
            shown = (picture[0].movedim(0, -1).clamp(0, 1) * 255).to(torch.uint8).numpy()
            progress.update_absolute(step + 1, steps, ("JPEG", Image.fromarray(shown), 128))
        if failure == "ValueError":
            raise ValueError("the picture in /srv/comfy/input/a.png is too dark")
        if failure == "OSError":
            raise OSError("No space left on device: '/srv/comfy/output/a.png'")
        if failure == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if failure == "cuda":
            raise RuntimeError("CUDA error: device-side assert triggered")
        return (picture.movedim(1, -1).clamp(0, 1),)


NODE_CLASS_MAPPINGS = {"DarkroomSlow": DarkroomSlow}
