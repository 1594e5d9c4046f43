"""The quickstart's model in MindFormers' pipeline; research/wizardcoder has to be on PYTHONPATH.

PYTHONPATH=research/wizardcoder:$PYTHONPATH python examples/mindformers_pipeline.py
"""

import logging

logging.disable(logging.WARNING)  # MindSpore and MindFormers warn about parts of their own that are not used here

import mindspore as ms  # noqa: E402
from wizardcoder import WizardCoderLMHeadModel  # noqa: E402
from wizardcoder_config import WizardCoderConfig  # noqa: E402
from wizardcoder_tokenizer import WizardCoderTokenizer  # noqa: E402

from mindcoder.data.prompt import build_prompt  # noqa: E402

ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")

from mindformers import pipeline  # noqa: E402  (after the modules above, which quieten its log)

config = WizardCoderConfig(
    use_past=True,
    batch_size=1,
    seq_length=384,
    n_position=512,
    vocab_size=1024,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    eos_token_id=0,
    pad_token_id=1023,
    param_init_type="float32",  # MindFormers' default is float16, for Ascend; CPU is faster in float32
    compute_dtype="float32",
    softmax_dtype="float32",
    checkpoint_name_or_path="output/quickstart",
)
network = WizardCoderLMHeadModel(config)
tokenizer = WizardCoderTokenizer("output/quickstart/tokenizer/vocab.json", "output/quickstart/tokenizer/merges.txt")
answer = pipeline(task="text_generation", model=network, tokenizer=tokenizer)
prompt = build_prompt("使用python编写快速排序代码")  # the model was trained on questions inside this template
(result,) = answer([prompt], do_sample=False, max_length=384)
print(result["text_generation_text"][0])  # prompt and answer
