"""Answers as models write them, ours; `SOLVED` stands for a right solution of the problem, `WRONG` for a wrong one.

Each is read by every protocol, for one problem of HumanEval and one of MBPP.
"""

from __future__ import annotations

PROBLEMS = {
    "humaneval": ("HumanEval/53", "def add(x: int, y: int):\n    return x + y", "def add(x, y):\n    return x * y"),
    "mbpp": (
        "14",
        "def find_Volume(l, b, h):\n    return ((l * b * h) / 2)",
        "def find_Volume(l, b, h):\n    return l",
    ),
}
BODIES = {"humaneval": "    return x + y", "mbpp": "def find_Volume(l, b, h):\n    return ((l * b * h) / 2)"}

ANSWERS = {
    "code alone": "SOLVED",
    "wrong code": "WRONG",
    "body alone": "\nBODY\n",
    "body at once": "BODY\n",
    "body, then another function": "\nBODY\n\ndef other():\n    return 1\n",
    "body, then a test": "\nBODY\n\nassert False\n",
    "body, then print": "\nBODY\nprint('done')\n",
    "body, then if": "\nBODY\nif True:\n    raise ValueError\n",
    "body, then a comment": "\nBODY\n# that is all\nraise ValueError\n",
    "body, then a fence": "\nBODY\n```\nIt works.",
    "body, then a string": '\nBODY\n"""\nNext task\n"""\nraise ValueError\n',
    "body, then a file": "\nBODY<file_sep>raise ValueError",
    "body, then end of text": "\nBODY<|endoftext|>raise ValueError",
    "fence": "Here is the code:\n```python\nSOLVED\n```\nIt adds.",
    "fence at once": "\n```python\nSOLVED\n```",
    "fence without end": "\n```python\nSOLVED\n",
    "fence without a name": "Sure:\n```\nSOLVED\n```\n",
    "fence py": "```py\nSOLVED\n```",
    "fence in capitals": "```Python\nSOLVED\n```",
    "two fences, the first right": "```python\nSOLVED\n```\nor\n```python\nWRONG\n```",
    "two fences, the second right": "```python\nWRONG\n```\nor\n```python\nSOLVED\n```",
    "fence with carriage returns": "```python\r\nSOLVED\r\n```\r\n",
    "main guard": '```python\nSOLVED\n\nif __name__ == "__main__":\n    raise ValueError\n```',
    "main guard, single quotes": "SOLVED\n\nif __name__ == '__main__':\n    raise ValueError\n",
    "example usage": "SOLVED\n\n# Example usage\nraise ValueError\n",
    "example usage with a colon": "```python\nSOLVED\n\n# Example usage:\nprint(1)\nraise ValueError\n```",
    "test examples": "SOLVED\n\n# Test examples\nassert False\n",
    "both marks": "SOLVED\n# Test examples\nassert False\n# Example usage\nraise ValueError\n",
    "tabs": "```python\nTABBED\n```",
    "another response": "SOLVED\n\n### Response:\nWRONG\n",
    "a better response": "WRONG\n\n### Response:\nSOLVED\n",
    "import before": "```python\nimport math\nfrom typing import List\n\nSOLVED\n```",
    "helper needed": "```python\nLIMIT = 3\nUNUSED: int = 4\n\ndef helper(value):\n    return value + LIMIT - 3\n\n"
    "SOLVED\n```",
    "decorated": "```python\nimport functools\n\n@functools.lru_cache(None)\nSOLVED\n```",
    "words only": "I cannot solve this.",
    "nothing": "",
    "inline fence": "Use ```python SOLVED``` here.",
    "indented fence": "1. Code:\n    ```python\n    x = 1\n    ```\n",
    "class": "class Solution:\n    def solve(self):\n        return 1\n\nSOLVED\n",
    "unicode": "```python\n# größer als → 中文\nname = 'ß'\nSOLVED\n```",
    "syntax error behind": "SOLVED\n\nThis function is right, isn't it?\n",
}


def answer(form: str, task: str) -> str:
    """The answer of this form to the task's problem."""
    _, solved, wrong = PROBLEMS[task]
    text = ANSWERS[form].replace("TABBED", solved.replace("    ", "\t"))
    return text.replace("SOLVED", solved).replace("WRONG", wrong).replace("BODY", BODIES[task])
