"""Makes pictures from prompts with any text-to-image model of Hugging Face's diffusers.

Install, into a virtual environment: torch (for your GPU, see pytorch.org), then

    pip install "diffusers>=0.27" transformers accelerate safetensors

Configure workerd (the model is downloaded at the first start, so the first start takes its time):

    - name: sdxl-turbo
      kind: exec
      command: [/opt/venv/bin/python, /opt/darkroom/examples/diffusers_image.py, --model, stabilityai/sdxl-turbo, --steps, "2", --guidance, "0"]
      tasks: [single_image]
      start_timeout: 30m
      device: cuda:0
      models: [stabilityai/sdxl-turbo]

The params of a task are prompt, seed, size and negative_prompt. Mind the licence of the model.
"""

import argparse

import darkroom_engine


def arguments():
    parser = argparse.ArgumentParser(description="An exec engine for text-to-image models of diffusers.")
    parser.add_argument("--model", required=True, help="name on huggingface.co, or folder")
    parser.add_argument("--steps", type=int, help="steps of a picture; the model's own when missing")
    parser.add_argument("--guidance", type=float, help="guidance scale; the model's own when missing")
    parser.add_argument("--device", help="such as cuda:1; the first GPU when missing, else the CPU")
    parser.add_argument("--offload", action="store_true", help="keep parts that don't work in main memory: slower, needs less GPU memory")
    return parser.parse_args()


def main():
    args = arguments()
    worker = darkroom_engine.connect()
    import torch
    from diffusers import AutoPipelineForText2Image

    device = args.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    pipeline = AutoPipelineForText2Image.from_pretrained(args.model, torch_dtype=torch.float32 if device == "cpu" else torch.float16)
    if args.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)

    def run(task):
        prompt, seed, size = task.prompt(), task.seed(), task.size(None)
        options = {"negative_prompt": task.param(str, "negative_prompt"), "num_inference_steps": args.steps, "guidance_scale": args.guidance}
        if size:
            if size[0] % 8 or size[1] % 8 or not 64 <= min(size) <= max(size) <= 4096:
                raise darkroom_engine.BadInput("The size cannot be used: width and height must be multiples of 8 from 64 to 4096.")
            options["width"], options["height"] = size

        def step_ended(pipe, step, _timestep, tensors):
            task.progress(step + 1, pipe.num_timesteps + 1, "drawing")
            if task.cancelled:
                pipe._interrupt = True  # it skips the steps that are left
            return tensors

        picture = pipeline(
            prompt=prompt, generator=torch.Generator("cpu").manual_seed(seed), callback_on_step_end=step_ended,
            **{name: value for name, value in options.items() if value is not None},
        ).images[0]
        task.check()
        picture.save(task.out_dir / "output.png")
        return "output.png", {"model": args.model, "seed": seed, "width": picture.width, "height": picture.height, "method": "diffusers"}

    worker.serve(run, task_types=["single_image"], device=device)


if __name__ == "__main__":
    main()
