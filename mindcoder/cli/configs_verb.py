"""configs ls, show, cp and validate: the shipped configurations, and recipes of the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from mindcoder.config.describe import BASE_TEXT
from mindcoder.config.effects import notes_on_effects
from mindcoder.config.layout import check_layout, layout_of
from mindcoder.config.load import load_config
from mindcoder.config.recipe import BASE, read_recipe
from mindcoder.config.schema import RunConfig
from mindcoder.config.shipped import Config, find_config, is_part, shipped
from mindcoder.config.write import as_yaml, scalar
from mindcoder.errors import UserError
from mindcoder.files import make_folder, read_text, write_text
from mindcoder.outputs import file_name, refuse_as_output, refuse_present
from mindcoder.sizes import quantity

CONFIG_HELP = "YAML file, or the name of a shipped configuration (mindcoder configs ls)"


def add_configs_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of configs."""
    verbs = parser.add_subparsers(dest="configs_verb", required=True, metavar="{ls,show,cp,validate}")
    ls = verbs.add_parser("ls", help="the shipped recipes and the parts that they are made of")
    ls.add_argument("words", nargs="*", metavar="WORD", help="only names that contain all of these; default: all names")
    show = verbs.add_parser("show", help="print a configuration joined with its bases, with a comment on every key")
    show.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    copy = verbs.add_parser("cp", help="begin a recipe of your own with a shipped one")
    copy.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    copy.add_argument("file", metavar="FILE", help="YAML file to write")
    copy.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    validate = verbs.add_parser("validate", help="check a configuration as a run does, without starting one")
    validate.add_argument("configs", nargs="+", metavar="CONFIG", help=CONFIG_HELP)
    validate.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the file; may be repeated"
    )
    for verb in (ls, show, copy, validate):
        verb.add_argument("--debug", action="store_true", help="show the stack trace of an error")


def configs_verb(arguments: argparse.Namespace) -> int:
    """Run one of its commands."""
    if arguments.configs_verb == "ls":
        print("\n".join(_listed(arguments.words)))
    elif arguments.configs_verb == "show":
        print(_shown(arguments.config), end="")
    elif arguments.configs_verb == "cp":
        _copy(arguments.config, file_name(arguments.file), arguments.overwrite)
    else:
        for given in arguments.configs:
            _validate(given, arguments.set)
    return 0


def _listed(words: list[str]) -> list[str]:
    """A line per shipped configuration: its name and what it is.

    Raises:
        UserError: no name contains the words.
    """
    found = {name: config for name, config in shipped().items() if all(word in name for word in words)}
    if not found:
        raise UserError(f"no shipped configuration is named like {' '.join(words)!r}")
    width = max(map(len, found))
    return [f"{name:{width}}  {_summary(name, config)}".rstrip() for name, config in found.items()]


def _summary(name: str, config: Config) -> str:
    """The comment above a configuration; for a recipe without one, its bases."""
    comment = " ".join(_comment(config))
    if comment and (is_part(name) or not config.entry):
        return comment
    bases = config.read().data.get(BASE, [])
    return ", ".join([bases] if isinstance(bases, str) else bases)


def _comment(config: Config) -> list[str]:
    """The comment lines right above an entry, or at the top of a file."""
    lines = read_text(config.file).splitlines()
    found: list[str] = []
    if config.entry:
        for line in reversed(lines[: lines.index(f"{config.entry}:")]):
            if not line.startswith("# "):
                break
            found.insert(0, line[2:])
        return found
    for line in lines:
        if not line.startswith("# "):
            break
        found.append(line[2:])
    return found


def _shown(given: str) -> str:
    """The joined file with comments."""
    source = read_recipe(given)
    below = source.files[:-1]
    joined = f", joined from {', '.join(below)}" if below else ""
    order = {name: index for index, name in enumerate(RunConfig.model_fields)}
    data = dict(sorted(source.data.items(), key=lambda item: order.get(item[0], len(order))))
    return f"# {given}{joined}\n{as_yaml(data)}"


def _copy(given: str, target: Path, overwrite: bool) -> None:
    """Write a recipe that does what a shipped one does: its bases and what it adds, or itself as the base of a part.

    Raises:
        UserError: ``given`` is a file, or the target exists.
    """
    config = find_config(given)
    name = next((name for name, one in shipped().items() if one == config), None)
    if name is None:
        raise UserError("is a file of your own: copy it with cp; configs cp begins a recipe with a shipped one", given)
    refuse_as_output([target], read_recipe(given).files)
    refuse_present([target], overwrite)
    own = config.read().data
    bases = [name] if is_part(name) or BASE not in own else own[BASE]
    rest = {} if bases == [name] else {key: value for key, value in own.items() if key != BASE}
    text = (
        f"# Created with `mindcoder configs cp {name}`; `mindcoder configs show {target}` prints it with all keys.\n"
        f"{BASE}: {scalar(bases)}  # {BASE_TEXT}\n{as_yaml(rest, read_recipe(given).data) if rest else ''}"
    )
    make_folder(target.parent)
    write_text(target, text)
    print(f"{target}: {len(text.splitlines())} lines on {', '.join(bases)}")


def _validate(given: str, sets: list[str]) -> None:
    """Print what a valid configuration describes, and its keys without effect.

    Raises:
        UserError: what a run would refuse.
    """
    from mindcoder.families.from_section import config_from_section
    from mindcoder.peft.from_section import lora_options, prefix_options
    from mindcoder.peft.options import added_shapes

    config, source = load_config(given, sets)
    if config.use_parallel:
        check_layout(config, source, layout_of(config).devices)
    network = config_from_section(config.model.settings)
    try:
        added_shapes(lora_options(config) or prefix_options(config), network)
    except ValueError as error:
        path = ("model", "model_config", "pet_config", "target_modules")
        raise UserError(f"{'.'.join(path)}: {error}", *source.location(path)) from None
    adapter = f", {config.adapter.pet_type}" if config.adapter is not None else ""
    print(f"{given}: valid; {config.run_mode}, {network.model_type}, {quantity(network.num_parameters())}{adapter}")
    device = "Ascend" if config.context.device_target == "Ascend" else "CPU"
    for note in notes_on_effects(config, source, device):
        print(f"  {note}")
