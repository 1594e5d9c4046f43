"""Special tokens of the StarCoder family, in id order (BigCode's tokenizer.json; StarCoder paper, section 3.1)."""

END_OF_TEXT = "<|endoftext|>"
PAD = "[PAD]"  # WizardCoder appends it as id 49152

STARCODER_SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<empty_output>",
    "<commit_before>",
    "<commit_msg>",
    "<commit_after>",
    "<reponame>",
)
