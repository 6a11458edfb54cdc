"""Makes videos between two pictures with WanGP (Wan2GP), through the task queue of Headless-Wan2GP.

WanGP's terms ask products that use it to say so in their user interface and documentation; its licence says what else it asks.

Install: clone github.com/peteromallet/Headless-Wan2GP (also known as Reigh-Worker) and follow its README up to "Install deps". Its own
worker, its database and its keys are not needed.

Configure workerd (the folders are yours; the model is downloaded at the first start):

    - name: wan
      kind: exec
      command: [/opt/wan/venv/bin/python, /opt/darkroom/examples/wan2gp.py, --root, /opt/wan/Headless-Wan2GP, --model, wan_2_2_i2v_lightning_baseline_2_2_2]
      tasks: [travel_segment]
      start_timeout: 30m
      hung_after: 5m      # it holds Python's lock while it loads a model
      device: cuda:0
      models: [wan_2_2_i2v_lightning_baseline_2_2_2]

The inputs of a task are start_image and, if the model takes one, end_image; its params base_prompt or prompt, negative_prompt, seed,
resolution or parsed_resolution_wh, segment_frames_target, num_inference_steps, guidance_scale and flow_shift.

Videos are moved out of its folder "outputs"; what an aborted task leaves there is yours to delete.

A step of a video model takes seconds, so a cancelled task mostly ends by a kill, and the model is loaded again.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
import time

import darkroom_engine

PROGRESS = re.compile(r"Progress: \((\d+), (\d+)\)")  # as Headless-Wan2GP prints it


def arguments():
    parser = argparse.ArgumentParser(description="An exec engine for WanGP.")
    parser.add_argument("--root", required=True, type=pathlib.Path, help="folder of Headless-Wan2GP")
    parser.add_argument("--model", required=True, help="name of a model definition in its Wan2GP/defaults or Wan2GP/finetunes")
    parser.add_argument("--device", default="cuda:0", help="what to advertise")
    return parser.parse_args()


class Listener:
    """A stdout that finds the progress of the task that runs among what is printed."""

    def __init__(self, stream):
        self.stream, self.task = stream, None

    def write(self, text):
        task, found = self.task, PROGRESS.search(text)
        if task and found:
            step, steps = map(int, found.groups())
            if 0 <= step <= steps and steps:
                task.progress(step, steps + 1, "generating")
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)


def parameters(task):
    """Turns a task into the parameters of WanGP's generation."""
    width, height = task.size((832, 480))
    frames = task.param(int, "segment_frames_target", "video_length", default=81)
    if not 5 <= frames <= 1000:
        raise darkroom_engine.BadInput("The param segment_frames_target must be from 5 to 1000.")
    wanted = {
        "resolution": f"{width - width % 16}x{height - height % 16}",
        "video_length": (frames - 1) // 4 * 4 + 1,  # the model's latents hold four frames each, after the first
        "seed": task.seed(),
        "image_start": str(task.input("start_image")),
        "image_prompt_type": "S",
    }
    if any(file.role == "end_image" for file in task.inputs):
        wanted.update(image_end=str(task.input("end_image")), image_prompt_type="SE")
    for name, kind in (("negative_prompt", str), ("num_inference_steps", int), ("guidance_scale", float), ("flow_shift", float)):
        value = task.param(kind, name)
        if value is not None:
            wanted[name] = value
    return wanted


def main():
    args = arguments()
    worker = darkroom_engine.connect()
    sys.stdout = listener = Listener(sys.stdout)
    root = args.root.resolve()
    sys.path.insert(0, str(root))
    os.chdir(root / "Wan2GP")  # it looks for its files there
    from headless_model_management import GenerationTask, HeadlessTaskQueue

    tasks = HeadlessTaskQueue(wan_dir=str(root / "Wan2GP"), max_workers=1)
    tasks.start(preload_model=args.model)

    def stop():
        """Asks WanGP to end what it does, as its own abort button does."""
        if tasks.orchestrator is not None:
            tasks.orchestrator.state["gen"]["abort"] = True
        model = getattr(sys.modules.get("wgp"), "wan_model", None)
        if model is not None:
            model._interrupt = True

    def run(task):
        wanted = parameters(task)
        prompt = task.param(str, "base_prompt", "prompt", default="")
        if tasks.orchestrator is not None:
            tasks.orchestrator.state["gen"]["abort"] = False
        name = f"{task.id}-{task.attempt}"
        listener.task = task
        try:
            tasks.submit_task(GenerationTask(id=name, model=args.model, prompt=prompt, parameters=wanted))
            task.on_cancel(stop)
            while True:
                state = tasks.get_task_status(name)
                if state.status in ("completed", "failed"):
                    break
                time.sleep(0.05)
        finally:
            listener.task = None
        task.check()
        if state.status == "failed":
            print(f"WanGP failed: {state.error_message}", flush=True)
            if "out of memory" in str(state.error_message).lower():
                raise darkroom_engine.OutOfMemory("The GPU ran out of memory; use a smaller resolution or fewer frames.")
            raise darkroom_engine.Failed("WanGP failed; the operator finds the reason in the worker's log.")
        output = task.out_dir / ("output" + pathlib.Path(state.result_path).suffix)
        shutil.move(state.result_path, output)
        facts = {name: wanted[name] for name in ("seed", "resolution", "video_length")}
        return output, {**facts, "model": args.model, "method": "wan2gp"}

    worker.serve(run, task_types=["travel_segment"], device=args.device)


if __name__ == "__main__":
    main()
