"""``export_wizardcoder_inc.py`` and ``inference_wizardcoder_mslite.py``, with the original scripts' flags.

The original ones run the graphs with MindSpore Lite; here MindSpore's GraphCell does.
"""

from __future__ import annotations

from mindcoder.cli.arguments import add_device_target_flag, not_negative, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.parser import Parser, StrictParser
from mindcoder.cli.scripts import script
from mindcoder.errors import UserError

FOLDER = "wizardcoder-15b_mslite_inc"  # of the original scripts
PROMPT = "使用python编写快速排序代码"


@script
def export_inc_script(prog: str) -> int:
    """Export the graphs of prefill and decoding."""
    parser = _parser(prog, "The graphs of prefill and decoding as MindIR.", "accepted; exporting needs no card")
    parser.add_argument("--model_path", required=True, metavar="PATH", help=".ckpt, Hugging Face folder, run, or YAML")
    parser.add_argument("--output_dir", default=FOLDER, metavar="DIR", help=f"folder to write; default: {FOLDER}")
    parser.add_argument("--overwrite", action="store_true", help="replace it")
    arguments = parser.parse_args()
    start_logging()
    from mindcoder.api import export

    done = export(
        arguments.model_path,
        arguments.output_dir,
        tokenizer=arguments.tokenizer_path,
        batch=arguments.batch_size,
        max_length=arguments.seq_length,
        overwrite=arguments.overwrite,
    )
    print("\n".join(f"{done.target}/{name}" for name in done.graphs))
    return 0


@script
def inference_mslite_script(prog: str) -> int:
    """Answer the original script's prompt and print the speed."""
    parser = _parser(prog, "Answers from exported graphs, and their speed.", "Ascend card; default: 0")
    parser.add_argument("--model_path", default=FOLDER, metavar="DIR", help=f"exported folder; default: {FOLDER}")
    add_device_target_flag(parser)
    arguments = parser.parse_args()
    start_logging()
    from pathlib import Path

    from mindcoder.api import load
    from mindcoder.locations import is_exported

    if not is_exported(Path(arguments.model_path)):
        raise UserError("is not an exported folder: export_wizardcoder_inc.py makes one", arguments.model_path)
    model = load(
        arguments.model_path,
        tokenizer=arguments.tokenizer_path,
        batch=arguments.batch_size,
        max_length=arguments.seq_length,
        device=arguments.device_target,
        device_id=arguments.device_id,
    )
    print("run by MindSpore's GraphCell, not by MindSpore Lite")
    done = model.engine.generate([model.tokenizer.encode(PROMPT)] * arguments.batch_size)
    print(model.tokenizer.decode(done[0].tokens, skip_special_tokens=True))
    timing = model.engine.timing
    print(
        f"{arguments.batch_size} x {len(done[0].tokens)} tokens: the first after {timing.first_token:.2f} s, then "
        f"{timing.tokens_per_second:.1f} tokens/s"
    )
    return 0


def _parser(prog: str, description: str, card: str) -> Parser:
    """The flags that both scripts have; the help says of ``--device_id`` what ``card`` says."""
    parser = StrictParser(prog=prog, description=description)
    parser.add_argument("--device_id", type=not_negative, default=0, metavar="N", help=card)
    parser.add_argument("--batch_size", type=positive, default=1, metavar="N", help="sequences together; default: 1")
    parser.add_argument(
        "--seq_length",
        type=positive,
        metavar="N",
        help="prompt and answer, in tokens; default: the model's",
    )
    parser.add_argument(
        "--tokenizer_path", metavar="DIR", help="with vocab.json and merges.txt; default: the model's own"
    )
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return parser
