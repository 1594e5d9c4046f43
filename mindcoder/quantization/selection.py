"""Which tensors of a model are quantized, and why the others are not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.quantized.format import Integers, LayerShape
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ParameterName
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig

HEAD = "lm_head"  # in all families of transformers; a tied one is not a tensor of its own
ALWAYS = "embedding or head"
AUTO = "auto:"  # before the largest relative error of a layer's output


@dataclass(frozen=True)
class Selection:
    """The modules of a model with a matrix.

    Attributes:
        quantized: weight and shape of the linear layers that become integers.
        kept: names of the modules that stay in floating point -> the reason.
    """

    quantized: list[tuple[TensorPlan, LayerShape]]
    kept: dict[str, str]

    @property
    def ignored(self) -> list[str]:
        """Linear modules, the head among them, that stay in floating point."""
        return [module for module, reason in self.kept.items() if module == HEAD or reason != ALWAYS]


def split_patterns(text: str) -> list[str]:
    """Regular expressions with commas between them; a comma within brackets, braces or after ``\\`` is part of one."""
    patterns, depth, closing, escaped = [""], 0, "", False
    for letter in text:
        if not escaped and not closing and depth == 0 and letter == ",":
            patterns.append("")
            continue
        patterns[-1] += letter
        if escaped or letter == "\\":
            escaped = not escaped
        elif closing:  # a set of characters, in which brackets have no meaning
            closing = "" if letter == closing else closing
        elif letter == "[":
            closing = "]"
        else:
            depth = max(depth + (letter in "({") - (letter in ")}"), 0)
    return patterns


def split_fallback(given: Sequence[str]) -> tuple[list[str], float | None]:
    """Regular expressions, and the largest error of ``auto:0.02``; None without.

    Raises:
        UserError: it is not a number between 0 and 1, or there are several.
    """
    limits = [item for item in given if item.startswith(AUTO)]
    if not limits:
        return list(given), None
    try:
        found = float(limits[0].removeprefix(AUTO))
    except ValueError:
        found = 0.0
    if not 0 < found < 1 or len(limits) > 1:
        raise UserError(
            f"--fallback {','.join(limits)}: expected one {AUTO} and a share of the output between 0 and 1, such as "
            f"{AUTO}0.02"
        )
    return [item for item in given if item not in limits], found


def select(
    plans: Sequence[TensorPlan], config: TransformerConfig, integers: Integers, patterns: Sequence[str], path: Path
) -> Selection:
    """Choose the linear layers inside the decoder's layers, without those that a pattern matches.

    Args:
        plans: of Hugging Face's tensors.
        patterns: regular expressions of whole module names, as Hugging Face's files have them.
        path: of the model, for messages.

    Raises:
        UserError: a pattern is not a regular expression or matches nothing, nothing is left, or groups do not divide a
            layer's inputs.
    """
    linears, tables = _matrices(config)
    by_module = {plan.name.removesuffix(".weight"): plan for plan in plans if plan.name.endswith(".weight")}
    layers = [module for module in by_module if module in linears]
    kept = dict.fromkeys([*(name for name in by_module if name in tables), HEAD], ALWAYS)
    for pattern in patterns:
        matching = _matching(pattern, [*layers, *kept])
        if not matching:
            raise UserError(
                f"--fallback {pattern}: matches no module; available: {', '.join(_kinds([*layers, *kept]))}", path
            )
        kept = {**{module: f"--fallback {pattern}" for module in matching if module in layers}, **kept}
    chosen = [_shape(module, by_module[module]) for module in layers if module not in kept]
    if not chosen:
        raise UserError("no linear layer is left to quantize", path)
    size = integers.group_size
    for shape in chosen:
        if size and shape.inputs % size:
            raise UserError(
                f"{shape.module} has {shape.inputs} inputs, which --group_size {size} does not divide: choose another "
                "or name the layer in --fallback",
                path,
            )
    ordered = {module: kept[module] for module in [*by_module, HEAD] if module in kept}
    return Selection([(by_module[shape.module], shape) for shape in chosen], ordered)


def _matrices(config: TransformerConfig) -> tuple[set[str], set[str]]:
    """Modules of linear layers and of tables, with and without the prefix of the whole model."""
    table = family_of(config.model_type).weights
    shapes = config.linear_shapes()
    linears, tables = set(), set()
    for rule in table.expand(config):
        parameter = ParameterName.parse(rule.ours[0])
        module = rule.huggingface.removesuffix(".weight")
        names = {module, module.removeprefix(table.prefix)}
        if parameter.module in shapes and parameter.part == "weight":
            linears |= names
        elif rule.ours[0] in (*TOKEN_TABLES, "position_embedding.weight"):
            tables |= names
    return linears, tables


def _shape(module: str, plan: TensorPlan) -> LayerShape:
    outputs, inputs = plan.shape
    return LayerShape(module, outputs, inputs, plan.dtype)


def _matching(pattern: str, modules: Sequence[str]) -> list[str]:
    try:
        return [module for module in modules if re.fullmatch(pattern, module)]
    except re.error as error:
        raise UserError(f"--fallback {pattern}: is not a regular expression: {error}") from None


def _kinds(modules: Sequence[str]) -> list[str]:
    """Names without their layer's number, each once."""
    return list(dict.fromkeys(re.sub(r"\.\d+\.", ".N.", module) for module in modules))
