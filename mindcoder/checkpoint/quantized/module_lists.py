"""Which modules a description says are quantized, in the words of AWQ and GPTQ: what a file holds has to agree."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.quantized.keys import ANY, Known, check_keys
from mindcoder.errors import UserError

SKIP, INCLUDE = "-:", "+:"  # before an expression of GPTQModel's `dynamic`
OTHER: tuple[str, re.Pattern[str], Mapping[str, Any]] = ("", re.compile(""), {})  # of a module that no rule matches
# What `dynamic` may set for a module. Groups, zeros and their order are read from the tensors.
OF_DYNAMIC: Known = {"bits": (4, 8), **dict.fromkeys(("group_size", "desc_act", "sym", "mse", "damp_percent"), (ANY,))}


def check_not_converted(found: Any, quantized: Collection[str], where: str, file: Path) -> None:
    """AWQ's ``modules_to_not_convert``: a module whose name has one of these texts in it stays in floating point.

    Args:
        quantized: the modules that are stored in integers.
        where: path of the key in ``file``.

    Raises:
        UserError: it is not a list of names, or one of these modules is quantized.
    """
    for text in _names(found, where, file):
        module = next((name for name in quantized if text in name), None)
        if module is not None:
            raise UserError(f"{where} has {text!r:.60}, but {module} is quantized", file)


def check_in_block(found: Any, quantized: Collection[str], where: str, file: Path) -> None:
    """GPTQ's ``modules_in_block_to_quantize``: of a layer these modules alone, by the ends of their names.

    Arguments as of `check_not_converted`.

    Raises:
        UserError: it is not a list of lists of names, or another module is quantized.
    """
    if found is None:
        return
    if not isinstance(found, list) or not all(isinstance(item, list | str) for item in found):
        raise UserError(f"{where}: found {found!r:.60}, expected a list of lists of names", file)
    ends = [name for item in found for name in _names(item if isinstance(item, list) else [item], where, file)]
    for module in quantized:
        if not any(module == end or module.endswith(f".{end}") for end in ends):
            raise UserError(f"{where} does not have {module}, which is quantized", file)


def module_bits(found: Any, quantized: Collection[str], bits: int, where: str, file: Path) -> dict[str, int]:
    """Bits of each module by GPTQModel's ``dynamic``: the first expression that its name begins with decides.

    Other arguments as of `check_not_converted`.

    Args:
        bits: of modules that none matches.

    Raises:
        UserError: it is not an object of expressions, has an unknown key, or skips a module that is quantized.
    """
    if found is None:
        return dict.fromkeys(quantized, bits)
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: found {found!r:.60}, expected an object", file)
    rules: list[tuple[str, re.Pattern[str], Mapping[str, Any]]] = []
    for text, settings in found.items():
        try:
            expression = re.compile(text.removeprefix(SKIP).removeprefix(INCLUDE))
        except re.error as error:
            raise UserError(f"{where}: {text!r:.60} is not a regular expression: {error}", file) from None
        if not text.startswith(SKIP):
            check_keys(settings, OF_DYNAMIC, f"{where}.{text}", file)
        rules.append((text, expression, settings))
    chosen = {}
    for module in quantized:
        text, _, settings = next((rule for rule in rules if rule[1].match(module)), OTHER)
        if text.startswith(SKIP):
            raise UserError(f"{where} has {text!r:.60}, but {module} is quantized", file)
        chosen[module] = settings.get("bits", bits)
    return chosen


def _names(found: Any, where: str, file: Path) -> list[str]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise UserError(f"{where}: found {found!r:.60}, expected a list of names", file)
    return found
