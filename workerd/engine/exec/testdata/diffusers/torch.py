"""As much of torch as examples/diffusers_image.py uses."""

float16, float32 = "float16", "float32"


class cuda:
    @staticmethod
    def is_available():
        return False


class Generator:
    def __init__(self, device):
        self.device = device

    def manual_seed(self, seed):
        self.seed = seed
        return self


class OutOfMemoryError(RuntimeError):
    pass
