"""What quantization does to a trained model: ``python -m benchmarks.quantize_errors [--folder FOLDER]``.

A Llama of 4 million parameters learns CodeAlpaca in minutes, is quantized in every way of `WAYS`, and is compared with
itself in floating point on records that it has not seen. The folder keeps the trained model; a second run begins there.
Small models are harder to quantize than large ones: read the order of the rows, not their values.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, write_result

DATA = "code_alpaca_2k.json"
HELD_OUT = 150  # records; the texts of calibration are others
TOKENS = 8000  # of those, to compare on
VOCAB = 2048
CONFIG: dict[str, Any] = {
    "base": "methods/tiny_finetune",
    "model": {
        "arch": {"type": "LlamaForCausalLM"},
        "model_config": {
            "type": "LlamaConfig",
            "vocab_size": VOCAB,
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_layers": 4,
            "num_heads": 4,
            "n_kv_heads": 2,
            "seq_length": 256,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": VOCAB - 1,
        },
    },
    "processor": {"tokenizer": {"vocab_file": ""}},
    "runner_config": {"epochs": 6, "batch_size": 8, "max_steps": 800},
    "lr_schedule": {"learning_rate": 3e-3, "lr_end": 1e-4, "warmup_steps": 20},
}
TEXTS = {"calibration": "calibration.json", "samples": 64, "length": 256}
# Name -> arguments of `mindcoder.quantize`. What is calibrated has TEXTS; another method is another line.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "W4A16 minmax": {"method": "w4a16"},
    "W4A16 GPTQ": {"method": "w4a16", "algorithm": "gptq", **TEXTS},
    "W4A16 AWQ": {"method": "w4a16", "algorithm": "awq", **TEXTS},
    "W4A16 mse": {"method": "w4a16", "algorithm": "mse"},
    "W8A16": {"method": "w8a16"},
    "W8A8 dynamic": {"method": "w8a8"},
    "W8A8 static": {"method": "w8a8", "activations": "static", **TEXTS},
    "W8A8 static, smooth 0.5": {"method": "w8a8", "activations": "static", "smooth": 0.5, **TEXTS},
    "W4A16 GPTQ, act_order": {"method": "w4a16", "algorithm": "gptq", "act_order": True, **TEXTS},
    "W4A16 g32 minmax": {"method": "w4a16", "group_size": 32},
    "W4A16 g32 mse": {"method": "w4a16", "group_size": 32, "algorithm": "mse"},
    "W4A16 g32 GPTQ": {"method": "w4a16", "group_size": 32, "algorithm": "gptq", **TEXTS},
    "W4A16 g32 AWQ": {"method": "w4a16", "group_size": 32, "algorithm": "awq", **TEXTS},
}


def train(folder: Path, data: Path) -> Path:
    """The trained model in ``folder``, which has its texts beside it."""
    import mindcoder
    from mindcoder.tokenizer.bpe import train_tokenizer

    records = json.loads(data.read_text(encoding="utf-8"))
    texts = [
        {"text": "\n".join(filter(None, (item["instruction"], item["input"], item["output"])))} for item in records
    ]
    held_out, learned = texts[:HELD_OUT], texts[HELD_OUT:]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("held_out", held_out), ("calibration", learned[:HELD_OUT]), ("learned", learned)):
        (folder / f"{name}.json").write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")
    if not (folder / "tokenizer").exists():
        train_tokenizer([item["text"] for item in learned], VOCAB).save(folder / "tokenizer")
    run = folder / "run"
    if not (folder / "model").exists():
        done = mindcoder.pretrain(
            CONFIG,
            str(folder / "learned.json"),
            tokenizer=folder / "tokenizer",
            output_dir=run,
            resume=(run / "checkpoint").exists(),
        )
        if done.exit_code:
            raise SystemExit(f"interrupted after {done.step} updates; the same command continues")
        mindcoder.convert(run, folder / "model", progress=False)
    return folder / "model"


def measure(folder: Path, model: Path, ways: list[str], figures: dict[str, Any]) -> None:
    """Add the figures of each way to those that are there, print them and write them to ``results``."""
    import mindcoder

    print(
        f"{'':28} {'bytes':>9} {'weights':>8} {'outputs':>8} {'perplexity':>11} {'KL':>9} {'agreement':>9}", flush=True
    )
    for name in ways:
        options = dict(WAYS[name])
        if "calibration" in options:
            options["calibration"] = folder / options["calibration"]
        target = folder / "quantized"
        report = mindcoder.quantize(model, target, overwrite=True, progress=False, **options).report
        compared = mindcoder.verify(model, target, folder / "held_out.json", tokens=TOKENS, progress=False)
        outputs = [layer.output_error for layer in report.layers if layer.output_error is not None]
        figures[name] = own = {
            "bytes": report.bytes_after,
            "weight_error": sum(layer.error for layer in report.layers) / len(report.layers),
            "output_error": sum(outputs) / len(outputs) if outputs else None,
            "layers": len(report.layers),
            "perplexity": compared.perplexity_b,
            "float_perplexity": compared.perplexity_a,
            "kl": compared.kl,
            "agreement": compared.agreement,
            "tokens": compared.tokens,
        }
        output = f"{own['output_error']:8.2%}" if outputs else f"{'':8}"
        print(
            f"{name:28} {own['bytes']:9,} {own['weight_error']:8.2%} {output} {own['perplexity']:11.4f}"
            f" {own['kl']:9.5f} {own['agreement']:9.2%}",
            flush=True,
        )
        shutil.rmtree(target)
        write_result("quantize_errors", {"held_out": HELD_OUT, "ways": figures})


def main() -> None:
    """Train where needed, measure, and write ``results/quantize_errors.json``; figures not asked for stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(DATA), help=f"CodeAlpaca's records; default: {DATA}")
    parser.add_argument("--folder", type=Path, default=Path("output/quantize_errors"))
    parser.add_argument("--ways", default=";".join(WAYS), help="names, with semicolons between them")
    parser.add_argument("--missing", action="store_true", help="leave out those that have figures")
    arguments = parser.parse_args()
    model = train(arguments.folder, arguments.data)
    file = RESULTS / "quantize_errors.json"
    figures = json.loads(file.read_text())["ways"] if file.is_file() else {}
    ways = [name for name in arguments.ways.split(";") if not (arguments.missing and name in figures)]
    measure(arguments.folder, model, ways, figures)
    print(f"figures in {file}")


if __name__ == "__main__":
    main()
