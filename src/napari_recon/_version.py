"""The version, where a source checkout that is not installed finds it too."""

__version__ = "0.1.0"
