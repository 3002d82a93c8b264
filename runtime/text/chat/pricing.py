"""A parsed template with the sandbox's accounts put into it."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

__all__ = ["GenerationTag", "Pricing"]


class GenerationTag(Extension):
    """``{% generation %}``, with which some templates mark what the model wrote; here it does nothing."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Pricing(NodeTransformer):
    """Puts the environment's accounts into a parsed template."""

    def _call(self, name: str, *arguments: Any) -> nodes.Call:
        line = arguments[0].lineno if arguments else 0
        return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None, lineno=line)

    def _literal(self, node: Any) -> nodes.Node:
        text = node.as_const() if isinstance(node, nodes.TemplateData) else node.value
        return self._call("literal", nodes.Const(text, lineno=node.lineno)) if isinstance(text, str) else node

    visit_Const = visit_TemplateData = _literal

    def _charged(self, node: Any) -> Any:
        return node if isinstance(node, nodes.Const) else self._call("charged", self.visit(node))

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return self._call("concatenated", *(self.visit(item) for item in node.nodes))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        node.expr = self._charged(node.expr)
        for operand in node.ops:
            operand.expr = self._charged(operand.expr)
        return node

    def _container(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._call("charged", node)

    visit_List = visit_Tuple = visit_Dict = _container

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        node.key, node.value = self._charged(node.key), self.visit(node.value)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        node.node = self.visit(node.node)
        if not isinstance(node.arg, nodes.Const):
            node.arg = self.visit(node.arg)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._call("iterated", node.iter)
        return node

    def _refused(self, node: Any) -> nodes.Node:
        raise SecurityError(f"line {node.lineno}: {type(node).__name__.lower()} is not for chat templates")

    visit_Include = visit_Import = visit_FromImport = visit_Extends = visit_Block = _refused
    visit_ScopedEvalContextModifier = visit_EvalContextModifier = _refused
