"""A model for the live test of Darkroom's engine cog: pictures from a small convolution net, step by step, that can fail on purpose."""

import tempfile
import time
from typing import List, Optional

import torch
from cog import BasePredictor, Input, Path
from PIL import Image


class Predictor(BasePredictor):
    def setup(self):
        self.net = torch.nn.Conv2d(3, 3, 5, padding=2)

    def predict(
        self,
        prompt: str = Input(description="what to draw"),
        image: Path = Input(description="a picture to begin with", default=None),
        seed: int = Input(default=0),
        width: int = Input(default=64, ge=8, le=512),
        height: int = Input(default=64, ge=8, le=512),
        steps: int = Input(default=4, ge=1, le=1000),
        step_seconds: float = Input(default=0.0),
        failure: str = Input(default="none", choices=["none", "ValueError", "memory", "cuda"]),
    ) -> List[Path]:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.net.weight.copy_(torch.randn(self.net.weight.shape, generator=generator) * 0.2)
            picture = torch.rand((1, 3, height, width), generator=generator)
            if image is not None:
                picture[0, 0, 0, 0] = Image.open(str(image)).width / 512
            for step in range(steps):
                time.sleep(step_seconds)
                print(f"{100 * (step + 1) // steps}%|#| {step + 1}/{steps}")
                picture = 0.8 * picture + 0.2 * torch.sigmoid(self.net(picture))
        if failure == "ValueError":
            raise ValueError("the picture is too dark")
        if failure == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if failure == "cuda":
            raise RuntimeError("CUDA error: device-side assert triggered")
        folder = tempfile.mkdtemp()
        files = []
        for name in ("first.png", "last.png"):
            file = Path(folder) / name
            Image.fromarray((picture[0].movedim(0, -1).clamp(0, 1) * 255).to(torch.uint8).numpy()).save(str(file))
            files.append(file)
        return files
