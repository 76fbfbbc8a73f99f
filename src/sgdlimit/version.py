"""The version, which pyproject.toml and CITATION.cff state too."""

__version__ = "0.1.0"
