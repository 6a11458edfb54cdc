"""As much of Headless-Wan2GP as examples/wan2gp.py uses, with the names and signatures of the real one. The prompt says what happens."""

import os
import pathlib
import sys
import threading
import time
import types
from dataclasses import dataclass
from typing import Any, Dict, Optional


@dataclass
class GenerationTask:
    id: str
    model: str
    prompt: str
    parameters: Dict[str, Any]
    priority: int = 0
    status: str = "pending"
    result_path: Optional[str] = None
    error_message: Optional[str] = None


class HeadlessTaskQueue:
    def __init__(self, wan_dir, max_workers=1, debug_mode=False, main_output_dir=None):
        assert os.path.samefile(os.getcwd(), wan_dir) and max_workers == 1
        self.outputs, self.history, self.orchestrator = pathlib.Path(wan_dir).parent / "outputs", {}, None
        self.outputs.mkdir()

    def start(self, preload_model=None):
        assert preload_model == "some_model"
        self.orchestrator = types.SimpleNamespace(state={"gen": {}})
        sys.modules["wgp"] = types.SimpleNamespace(wan_model=types.SimpleNamespace(_interrupt=False))

    def submit_task(self, task):
        self.history[task.id] = task
        threading.Thread(target=self.work, args=(task,), daemon=True).start()
        return task.id

    def get_task_status(self, task_id):
        return self.history.get(task_id)

    def work(self, task):
        task.status = "processing"
        model = sys.modules["wgp"].wan_model
        model._interrupt = False
        wanted = task.parameters
        assert os.path.exists(wanted["image_start"]) and wanted["video_length"] % 4 == 1 and wanted["resolution"] == "64x48"
        for step in range(100):
            print(f"Progress: ({step}, 100)% - Denoising")
            time.sleep(0.05 if task.prompt == "slow" else 0)
            if model._interrupt and self.orchestrator.state["gen"]["abort"]:
                task.error_message, task.status = "No output generated", "failed"
                return
        if task.prompt == "too much":
            task.error_message, task.status = "CUDA out of memory. Tried to allocate 20.00 GiB.", "failed"
            return
        path = self.outputs / "2026-01-01_video.mp4"
        path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42")
        task.result_path, task.status = str(path), "completed"
