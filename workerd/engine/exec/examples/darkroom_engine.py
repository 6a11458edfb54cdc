"""Speaks workerd's exec protocol (../README.md), so that a program only needs a function that does one task.

Needs Python 3.9 or later and nothing else. A program looks like this:

    import darkroom_engine

    worker = darkroom_engine.connect()   # first of all: from here on, prints go to the log
    import torch                         # then what is slow to load
    model = load_the_model()

    def run(task):
        for step in range(20):
            task.check()                 # ends the run when it was cancelled
            task.progress(step, 20, "drawing")
            ...
        picture.save(task.out_dir / "output.png")
        return "output.png", {"seed": task.seed()}

    worker.serve(run, task_types=["single_image"], device="cuda:0")

run works in the main thread, one task at a time. Another thread answers pings and takes cancels meanwhile.
"""

import base64
import json
import os
import pathlib
import queue
import sys
import threading
import traceback
import uuid

PROTOCOL = 1
LONGEST_LINE = 1 << 20
LONGEST_PREVIEW = 700_000  # bytes; as base64 it then fits into a line


class Failed(Exception):
    """A failure with a message for the owner of the task: one sentence, without names of files."""

    code = "failed"


class BadInput(Failed):
    """The task can never succeed, whoever tries it."""

    code = "bad_input"


class OutOfMemory(Failed):
    """The device has too little memory for the task."""

    code = "oom"


class Cancelled(Exception):
    """The task was cancelled; raised by Task.check."""


def connect():
    """Takes the protocol's streams for itself. What the process prints from here on is log text."""
    number = int(os.environ.get("DARKROOM_PROTOCOL_FD", "1"))
    out = os.fdopen(os.dup(number), "w", encoding="utf-8")  # a copy, which programs started from here don't get
    if number != 1:
        os.close(number)
    read = os.fdopen(os.dup(0), "r", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Worker(read, out)


class Worker:
    """The connection to workerd."""

    def __init__(self, read, out):
        self._read, self._out = read, out
        self._lock = threading.Lock()
        self._orders = queue.Queue()
        self._tasks = {}

    def serve(self, run, task_types, device="cpu"):
        """Says that the program is ready, and calls run(task) for each task until workerd ends the program.

        run returns the output's path, or a pair of the path and a dict of facts about it. The path lies in task.out_dir.
        """
        self._send({"type": "ready", "protocol": PROTOCOL, "task_types": list(task_types), "slots": 1, "device": device})
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            task = self._orders.get()
            try:
                end = self._end(run, task)
            finally:
                self._tasks.pop(task.id, None)
            try:
                self._send({"id": task.id, **end})
            except (TypeError, ValueError):
                traceback.print_exc()
                self._send({"id": task.id, "type": "error", "code": "failed", "message": "The engine's program made a result that cannot be sent."})

    def _end(self, run, task):
        """Runs a task and returns the message that ends it."""
        try:
            task.check()
            made = run(task)
            task.check()
        except Cancelled:
            return {"type": "error", "code": "cancelled"}
        except Failed as failure:
            return {"type": "error", "code": failure.code, "message": str(failure)}
        except Exception as failure:  # a model may raise anything, and the next task must run
            traceback.print_exc()
            if task.cancelled:
                return {"type": "error", "code": "cancelled"}
            if out_of_memory(failure):
                return {"type": "error", "code": "oom", "message": "The GPU ran out of memory; use a smaller size or fewer frames."}
            return {"type": "error", "code": "failed", "message": f"The engine's program failed with {type(failure).__name__}."}
        path, facts = made if isinstance(made, tuple) else (made, {})
        return {"type": "result", "files": [{"path": os.fspath(path)}], "metadata": facts}

    def _listen(self):
        """Takes orders until workerd has gone, and then ends the program, in the middle of a task if need be."""
        for line in self._read:
            order = json.loads(line)
            if order["type"] == "ping":
                self._send({"type": "pong"})
            elif order["type"] == "cancel" and order["id"] in self._tasks:
                self._tasks[order["id"]]._cancel()
            elif order["type"] == "run":
                task = Task(self, order)
                self._tasks[task.id] = task
                self._orders.put(task)
        os._exit(0)

    def _send(self, message):
        line = json.dumps(message, allow_nan=False) + "\n"
        if len(line) > LONGEST_LINE:  # json.dumps writes ASCII
            raise ValueError("a message of more than 1 MiB")
        with self._lock:
            self._out.write(line)
            self._out.flush()


class Input:
    """A local file that the task works on."""

    def __init__(self, fields):
        self.path, self.role, self.media_type = pathlib.Path(fields["path"]), fields["role"], fields["media_type"]


class Task:
    """One task. out_dir is an empty folder for its output."""

    def __init__(self, worker, order):
        self._worker = worker
        self._cancelled = threading.Event()
        self._stoppers = []
        self.id, self.attempt, self.type, self.params = order["id"], order["attempt"], order["task_type"], order["params"]
        self.inputs = [Input(fields) for fields in order["inputs"]]
        self.out_dir = pathlib.Path(order["out_dir"])

    @property
    def cancelled(self):
        """Whether the task was cancelled."""
        return self._cancelled.is_set()

    def check(self):
        """Raises Cancelled when the task was cancelled. To be called often: what does not end within half a second is killed."""
        if self.cancelled:
            raise Cancelled

    def on_cancel(self, stop):
        """Has stop() called, in another thread, when the task is cancelled."""
        self._stoppers.append(stop)
        if self.cancelled:
            stop()

    def _cancel(self):
        self._cancelled.set()
        for stop in list(self._stoppers):
            try:
                stop()
            except Exception:  # the listening thread must go on
                traceback.print_exc()

    def progress(self, value, most, phase="working"):
        """Says how much of all there is to do is done."""
        self._worker._send({"type": "progress", "id": self.id, "value": float(value), "max": float(most), "phase": phase})

    def preview(self, data, media_type="image/jpeg"):
        """Shows an unfinished result, the bytes of a PNG, JPEG or WebP picture. One that is too large is left out."""
        if len(data) <= LONGEST_PREVIEW:
            self._worker._send({"type": "preview", "id": self.id, "data": base64.b64encode(data).decode(), "media_type": media_type})

    def log(self, text):
        """Writes a line to workerd's log."""
        self._worker._send({"type": "log", "id": self.id, "message": str(text)})

    def input(self, role):
        """Gives the path of the input of a role, such as "start_image"."""
        for file in self.inputs:
            if file.role == role:
                return file.path
        raise BadInput(f"The task needs the param {role}.")

    def param(self, kind, *names, default=None):
        """Gives the first of the named params, which must be of a kind such as str, int or float. Params of the orchestrator count too."""
        levels = [self.params] + [self.params.get(name) for name in ("orchestrator_details", "full_orchestrator_payload")]
        for level in levels:
            for name in names:
                value = level.get(name) if isinstance(level, dict) else None
                if value is None:
                    continue
                if kind is float and type(value) is int:
                    value = float(value)
                if type(value) is not kind:
                    raise BadInput(f"The param {name} must be of the kind {kind.__name__}.")
                return value
        return default

    def prompt(self):
        """Gives the prompt, which must be there."""
        prompt = self.param(str, "prompt", "base_prompt", default="").strip()
        if not prompt:
            raise BadInput("The param prompt is missing: say what to make.")
        return prompt

    def seed(self):
        """Gives the seed. When it is missing or negative it comes from the task's id, as in all engines of Darkroom."""
        seed = self.param(int, "seed", "seed_base", default=-1)
        if seed >= 0:
            return seed
        digest = 2166136261  # FNV-1a
        for byte in uuid.UUID(self.id).bytes:
            digest = (digest ^ byte) * 16777619 % 2**32
        return digest >> 1

    def size(self, default):
        """Gives width and height in pixels."""
        text = self.param(str, "parsed_resolution_wh", "resolution", "size")
        if text is not None:
            width, _, height = text.partition("x")
            try:
                size = int(width), int(height)
            except ValueError:
                raise BadInput("The resolution must be a size such as 768x512.") from None
        else:
            size = self.param(int, "width"), self.param(int, "height")
            if size == (None, None):
                return default
            if None in size:
                raise BadInput("The params width and height only count together: give both, or neither.")
        if min(size) < 1:
            raise BadInput("The size cannot be used: width and height must be above 0.")
        return size


def out_of_memory(failure):
    """Says whether an exception means that memory ran out, as torch has it for CUDA, ROCm and MPS."""
    return isinstance(failure, MemoryError) or type(failure).__name__ == "OutOfMemoryError" or "out of memory" in str(failure).lower()
