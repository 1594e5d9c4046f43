"""Records of every layout, and the turns that they hold, written by hand from the documents of the sets.

Roles of what is learned are in capitals; a question's further input follows " + ".
"""

from __future__ import annotations

import json

TOOLS = (
    "You can call these tools:\n<tools>\n{}\n</tools>\n"
    'Call one with <tool_call>\n{{"name": its name, "arguments": an object}}\n</tool_call>'
)
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
WEATHER_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
LIGHT_CALL = '<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>'
PUBLIC = {
    "1_alpaca_sft.json": [
        [
            ("user", "识别并解释给定列表中的两个科学理论：细胞理论和日心说。"),
            ("ANSWER", "细胞理论是生物科学的一个理论，它认为所有已知的生命都由一个或多个细胞组成。"),
        ],
        [
            ("system", "system prompt (optional)"),
            ("user", "human instruction in the first round (optional)"),
            ("ANSWER", "model response in the first round (optional)"),
            ("user", "human instruction in the second round (optional)"),
            ("ANSWER", "model response in the second round (optional)"),
            ("user", "human instruction (required) + human input (optional)"),
            ("ANSWER", "model response (required)"),
        ],
    ],
    "2_alpaca_history_only.json": [
        [
            ("user", "今天会下雨吗？"),
            ("ANSWER", "今天不会下雨，是个好天气。"),
            ("user", "今天适合出去玩吗？"),
            ("ANSWER", "非常适合，空气质量很好。"),
            ("user", "今天的天气怎么样？"),
            ("ANSWER", "今天的天气不错，是晴天。"),
        ]
    ],
    "4_sharegpt.json": [
        [
            ("system", "system prompt (optional)\n\n" + TOOLS.format("tool description (optional)")),
            ("user", "user instruction"),
            ("ANSWER", "model response"),
        ]
    ],
    "4b_sharegpt_tools.json": [
        [
            ("system", "system prompt (optional)\n\n" + TOOLS.format("tool description (optional)")),
            ("user", "user instruction"),
            ("ANSWER", "<tool_call>\ntool arguments\n</tool_call>"),
            ("tool", "tool result"),
            ("ANSWER", "model response"),
        ]
    ],
    "5b_openai_tools.json": [
        [
            ("system", "You can call tools\n\n" + TOOLS.format(json.dumps(WEATHER))),
            ("user", "weather?"),
            ("ANSWER", WEATHER_CALL),
            ("tool", "18C"),
            ("ANSWER", "18 degrees"),
        ]
    ],
    "5c_openai_parts.json": [[("user", "hi"), ("ANSWER", "hello")]],
    "8b_belle_multi.json": [[("user", "你好"), ("ANSWER", "你好！")]],
    "9_evol_codealpaca.json": [[("user", "Write a function"), ("ANSWER", "def f(): pass")]],
    "9c_evol_v1_wizard.json": [[("user", "hi"), ("ANSWER", "yo")]],
    "9d_firefly.json": [[("user", "自然语言推理："), ("ANSWER", "答案")]],
    "9f_alpaca_prompt_response.json": [[("user", "Write f"), ("ANSWER", "def f(): pass")]],
    "9g_prompt_completion.json": [[("user", "Write f"), ("ANSWER", "def f(): pass")]],
    "9i_sharegpt_system_turn.json": [[("system", "s"), ("user", "q"), ("ANSWER", "a")]],
    "9j_question_answer.json": [[("user", "q"), ("ANSWER", "a")]],
}
PUBLIC_PAIRS = {
    "6b_dpo_sharegpt.json": (
        [("user", "user instruction"), ("assistant", "model response"), ("user", "user instruction")],
        "chosen answer (required)",
        "rejected answer (required)",
    ),
    "6c_dpo_sharegpt_1turn.json": ([("user", "user instruction")], "chosen answer", "rejected answer"),
    "6e_dpo_trl.json": ([("user", "q")], "a", "b"),
    "6f_dpo_comparison_multi.json": ([("user", "q"), ("assistant", "x"), ("user", "q2")], "a", "b"),
    "6h_dpo_ultrafeedback.json": ([("user", "q")], "a", "b"),
}
MOSS = {
    "meta_instruction": "You are MOSS.",
    "num_turns": 2,
    "chat": {
        "turn_1": {
            "Human": "<|Human|>: 你好<eoh>\n",
            "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
            "Commands": "<|Commands|>: None<eoc>\n",
            "Tool Responses": "<|Results|>:\nNone\n<eor>\n",
            "MOSS": "<|MOSS|>: 您好<eom>\n",
        },
        "turn_2": {
            "Human": "<|Human|>: 2^3 ?<eoh>\n",
            "Inner Thoughts": "<|Inner Thoughts|>: A power.<eot>\n",
            "Commands": '<|Commands|>: Calculate("2^3")<eoc>\n',
            "Tool Responses": '<|Results|>:\nCalculate("2^3") => 8\n<eor>\n',
            "MOSS": "<|MOSS|>: It is 8.<eom>\n",
        },
    },
}
OTHERS = {  # layouts of which no file is at hand
    "alpaca with an input": (
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        [("user", "Add + 1 and 2"), ("ANSWER", "3")],
    ),
    "BELLE's turns in the instruction": (
        {"instruction": "Human:写诗\nAssistant:好的：\n春雨\nHuman: Shorter.\nAssistant:", "input": "", "output": "雨"},
        [("user", "写诗"), ("ANSWER", "好的：\n春雨"), ("user", "Shorter."), ("ANSWER", "雨")],
    ),
    "an instruction that speaks of Human:": (
        {"instruction": "Human: or\nAssistant: which?", "output": "a"},
        [("user", "Human: or\nAssistant: which?"), ("ANSWER", "a")],
    ),
    "dolly": (
        {"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada", "category": "qa"},
        [("user", "Who? + Ada wrote it."), ("ANSWER", "Ada")],
    ),
    "magicoder": (
        {"lang": "py", "problem": "Sort.", "solution": "sorted(x)"},
        [("user", "Sort."), ("ANSWER", "sorted(x)")],
    ),
    "open orca": (
        {"id": "1", "system_prompt": "Think.", "question": "q", "response": "r"},
        [("system", "Think."), ("user", "q"), ("ANSWER", "r")],
    ),
    "metamath": ({"query": "1+1", "response": "2", "type": "GSM"}, [("user", "1+1"), ("ANSWER", "2")]),
    "CodeFeedback": (
        {"query": "q", "answer": "a", "resource": "evol", "lang": "python"},
        [("user", "q"), ("ANSWER", "a")],
    ),
    "OpenAI's functions": (
        {
            "messages": [
                {"role": "user", "content": "light"},
                {"role": "assistant", "content": None, "function_call": {"name": "light", "arguments": '{"on": true}'}},
                {"role": "function", "name": "light", "content": "on"},
                {"role": "assistant", "content": "Done!"},
            ],
            "functions": [{"name": "light"}],
            "parallel_tool_calls": True,
        },
        [
            ("system", TOOLS.format('{"name": "light"}')),
            ("user", "light"),
            ("ANSWER", LIGHT_CALL),
            ("tool", "on"),
            ("ANSWER", "Done!"),
        ],
    ),
    "input and output": ({"input": "q", "output": "a"}, [("user", "q"), ("ANSWER", "a")]),
    "self-instruct": (
        {"instruction": "Add", "instances": [{"input": "1 2", "output": "3"}]},
        [("user", "Add + 1 2"), ("ANSWER", "3")],
    ),
    "TRL: a completion is learned, earlier answers of the prompt are not": (
        {
            "prompt": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
            "completion": [{"role": "assistant", "content": "d"}],
        },
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("ANSWER", "d")],
    ),
    "TRL: arguments as an object": (
        {
            "messages": [
                {"role": "user", "content": "light"},
                {"role": "assistant", "tool_calls": [{"function": {"name": "light", "arguments": {"on": True}}}]},
                {"role": "tool", "name": "light", "content": "on"},
                {"role": "assistant", "content": "Done!"},
            ]
        },
        [("user", "light"), ("ANSWER", LIGHT_CALL), ("tool", "on"), ("ANSWER", "Done!")],
    ),
    "two calls at once, and their results": (
        {
            "messages": [
                {"role": "user", "content": "both"},
                {
                    "role": "assistant",
                    "content": "Yes.",
                    "tool_calls": [
                        {"function": {"name": "light", "arguments": '{"on": true}'}},
                        {"function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
                    ],
                },
                {"role": "tool", "content": "on"},
                {"role": "tool", "content": {"degrees": 18}},
                {"role": "assistant", "content": "ok"},
            ]
        },
        [
            ("user", "both"),
            ("ANSWER", f"Yes.\n{LIGHT_CALL}\n{WEATHER_CALL}"),
            ("tool", 'on\n</tool_response>\n<tool_response>\n{"degrees": 18}'),
            ("ANSWER", "ok"),
        ],
    ),
    "glaive: a call in JSON": (
        {
            "conversations": [
                {"from": "human", "value": "light"},
                {"from": "function_call", "value": '{"name": "light", "arguments": {"on": true}}'},
                {"from": "observation", "value": "on"},
                {"from": "gpt", "value": "Done!"},
            ],
            "tools": "[]",
        },
        [("user", "light"), ("ANSWER", LIGHT_CALL), ("tool", "on"), ("ANSWER", "Done!")],
    ),
    "OpenAI's weight 0": (
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "weight": 0},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d", "weight": 1},
            ]
        },
        [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("ANSWER", "d")],
    ),
    "ShareGPT that begins with an answer": (
        {"conversations": [{"from": f, "value": v} for f, v in (("gpt", "Hi!"), ("human", "q"), ("gpt", "a"))]},
        [("user", "q"), ("ANSWER", "a")],
    ),
    "a system turn wins over the field": (
        {
            "conversations": [{"from": f, "value": v} for f, v in (("system", "turn"), ("human", "q"), ("gpt", "a"))],
            "system": "field",
        },
        [("system", "turn"), ("user", "q"), ("ANSWER", "a")],
    ),
    "firefly, several turns": (
        {"conversation_id": 1, "conversation": [{"human": "q", "assistant": "a"}, {"human": "r", "assistant": "b"}]},
        [("user", "q"), ("ANSWER", "a"), ("user", "r"), ("ANSWER", "b")],
    ),
    "firefly, ChatGLM3's tools": (
        {
            "tools": [{"name": "light"}],
            "conversations": [
                {"role": "user", "content": "q"},
                {"role": "tool", "name": "light", "parameters": {"on": True}, "observation": {"state": "开"}},
                {"role": "assistant", "content": "a"},
            ],
        },
        [
            ("system", TOOLS.format('{"name": "light"}')),
            ("user", "q"),
            ("ANSWER", LIGHT_CALL),
            ("tool", '{"state": "开"}'),
            ("ANSWER", "a"),
        ],
    ),
    "moss 003": (
        MOSS,
        [
            ("system", "You are MOSS."),
            ("user", "你好"),
            ("ANSWER", "您好"),
            ("user", "2^3 ?"),
            ("ANSWER", '<think>\nA power.\n</think>\n<tool_call>\nCalculate("2^3")\n</tool_call>'),
            ("tool", 'Calculate("2^3") => 8'),
            ("ANSWER", "It is 8."),
        ],
    ),
    "moss 002": (
        {
            "id": 0,
            "prefix": "MOSS is an AI assistant.",
            "num_turns": 2,
            "plain_text": "[Human]: hi <eoh> [MOSS]: hello!<eoa> [Human]: [1] or\n[2]?<eoh> [MOSS]: [1]<eoa>",
        },
        [
            ("system", "MOSS is an AI assistant."),
            ("user", "hi"),
            ("ANSWER", "hello!"),
            ("user", "[1] or\n[2]?"),
            ("ANSWER", "[1]"),
        ],
    ),
    "a text": ({"text": "The sky is blue."}, [("TEXT", "The sky is blue.")]),
    "code of The Stack": ({"content": "x = 1\n", "max_stars_count": 3, "hexsha": "a"}, [("TEXT", "x = 1\n")]),
}
REFUSED = [
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "part of type image_url"),
    ({"messages": [{"role": "user", "content": "<image>"}], "images": ["1.jpg"]}, "images: only text can be learned"),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "user", "content": "r"}]}, "message 1 is the user's"),
    ({"conversations": [{"from": "human", "value": "q"}]}, "there is no answer at the end"),
    ({"conversations": [{"from": "robot", "value": "q"}]}, "turn 0: expected a role (system, developer, user, human"),
    ({"messages": [{"role": r, "content": "x"} for r in ("user", "system", "assistant")]}, "stands between the turns"),
    ({"messages": [{"role": r, "content": "x"} for r in ("tool", "assistant")]}, "message 0 is the tool's"),
    ({"instruction": "a", "output": "b", "history": [["only"]]}, "history[0]: expected [question, answer]"),
    ({"instruction": "a", "output": "b", "tools": 3}, "tools: expected a list of objects or a text, found int"),
    ({**MOSS, "num_turns": 3}, "num_turns is 3, chat holds 2 turns"),
    ({"chat": "USER: hi"}, "chat: expected an object of turns"),
    ({"plain_text": "hello"}, "plain_text: expected [Human]: …<eoh> [MOSS]: …<eoa>, found 'hello'"),
    ({"prompt": "p", "completions": ["a"], "labels": [True]}, "no objective for stepwise supervision"),
    ({"prompt": "other", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
      "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]},
     "the prompt is not what chosen and rejected begin with"),
    ({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
      "rejected": [{"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]},
     "expected the same turns up to the last one"),
]  # fmt: skip
