"""The enforcement workbench: what a policy against persistently vulnerable Exchange servers would do to mail."""

__version__ = "0.1.0"
