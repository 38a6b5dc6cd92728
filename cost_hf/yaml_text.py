"""YAML as people write it into recipes and on the command line: plain values, each written once.

Aliases (`*name`) let a few lines stand for more values than a memory holds, a key given twice would lose one of its
values in silence, and YAML reads 010 as 8 and 1:30 as 90; all of these are errors.
"""

import re
from collections import Counter
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

MAX_CHARACTERS = 1_000_000
MAX_LEVELS = 50


def read_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        ValueError: for what is no YAML, an alias, a key given twice, a number to the base 8 or 60, or more characters
            or levels than anybody writes.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"expected at most {MAX_CHARACTERS} characters of YAML, got {len(text)}; shorten it")
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError as error:
        raise ValueError(f"expected YAML of at most {MAX_LEVELS} levels, got more; flatten it") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ValueError(" ".join(str(error).split())) from error  # it draws the place over several lines


class _PlainLoader(yaml.SafeLoader):
    levels = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            line = event.start_mark.line + 1
            raise yaml.YAMLError(f"line {line} refers to another value by an alias; write the value out")
        self.levels += 1
        if self.levels > MAX_LEVELS:
            raise yaml.YAMLError(f"values are nested more than {MAX_LEVELS} deep; flatten them")
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        counts = Counter(key.value for key, _ in node.value if isinstance(key.value, str))
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} ff. give {twice!r} twice; keep one of them")
        return super().construct_mapping(node, deep=deep)

    def construct_plain_int(self, node: ScalarNode) -> int:
        _check_digits(node)
        return self.construct_yaml_int(node)

    def construct_plain_float(self, node: ScalarNode) -> float:
        _check_digits(node)
        return self.construct_yaml_float(node)


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_plain_int)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _PlainLoader.construct_plain_float)


def _check_digits(node: ScalarNode) -> None:
    """Raise for a number that YAML reads to the base 8 or 60."""
    if re.match(r"[-+]?0[0-9_]", node.value) or ":" in node.value:
        raise yaml.YAMLError(
            f"line {node.start_mark.line + 1} holds {node.value}, which YAML does not read as decimal digits; write "
            "the number without leading zeros and colons, or a text in quotes"
        )
