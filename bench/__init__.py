"""Times edgeformer beside its peers: `python bench` lists the commands. Modules here import each other relatively.

Importing the package brings in nothing, so that a peer's interpreter can run `python -m bench.worker`.
"""
