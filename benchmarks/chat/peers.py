"""The runtimes: what is installed for each, and how its process is started."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.environments import NotInstalled, home

_SECONDS = 900  # for one installation


@dataclass(frozen=True, slots=True)
class Runtime:
    """One row: a worker of ``benchmarks.chat.workers`` and its last argument; ``models`` that it can read."""

    name: str
    worker: str
    how: str
    models: tuple[str, ...]
    requirements: tuple[str, ...] = ()  # of an environment of its own; without any, that of this interpreter
    note: str = ""

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return home() / f"chat-{self.worker}" / "bin" / "python" if self.requirements else Path(sys.executable)


GGUF, VLM = "smollm2-135m", "smolvlm-256m"
RUNTIMES = (
    Runtime("anmok", "anmok", "gguf", (GGUF,), note="the file's four bits; prompts by eight bits and bfloat16"),
    Runtime(
        "anmok int8",
        "anmok",
        "int8",
        (VLM,),
        note="weights of eight bits; prompts and tower by eight bits and bfloat16",
    ),
    Runtime("anmok float32", "anmok", "float32", (GGUF, VLM), note="exact; GGUF unpacked"),
    Runtime("transformers", "transformers", "float32", (GGUF, VLM), note="exact; GGUF unpacked"),
    Runtime("transformers bfloat16", "transformers", "bfloat16", (GGUF, VLM)),
    Runtime(
        "openvino-genai",
        "openvino",
        "",
        (GGUF,),
        ("openvino-genai",),
        "reads the GGUF file itself, as if offsets of Q4_1 were rounded",
    ),
    Runtime(
        "openvino-genai as LLaVA",
        "openvino",
        "",
        (VLM,),
        ("openvino-genai",),
        "it knows no Idefics3: the same nets in a folder of LLaVA's, the language model in eight bits (Q8_0 as it "
        "reads them), the tower converted from torch; its time holds resizing 512 pixels to 512",
    ),
    Runtime(
        "llama.cpp",
        "llamacpp",
        "",
        (GGUF, VLM),
        ("xllamacpp", "numpy"),
        "wheel of xllamacpp, compiled for AVX2; of SmolVLM language model and tower in eight bits (Q8_0), the picture "
        "as a BMP file",
    ),
)


def install(runtime: Runtime) -> str:
    """Makes its environment where there is none; name and version of what computes.

    Raises:
        NotInstalled: pip failed, or took too long.
    """
    if runtime.requirements and not (runtime.python.parent.parent / "installed.txt").is_file():
        venv.create(runtime.python.parent.parent, with_pip=True, clear=True)
        command = [str(runtime.python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--only-binary"]
        try:
            subprocess.run(
                [*command, ":all:", *runtime.requirements], capture_output=True, timeout=_SECONDS, check=True
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotInstalled(f"pip could not install {runtime.requirements[0]} ({type(error).__name__})") from None
        (runtime.python.parent.parent / "installed.txt").write_text("yes\n", encoding="utf-8")
    names = [runtime.requirements[0]] if runtime.requirements else ["torch", "transformers"]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run(
        [runtime.python, "-c", code, *names], capture_output=True, text=True, encoding="utf-8", check=True
    )
    return done.stdout.strip()
