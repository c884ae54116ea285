"""The version of the forwarder; the deployed package has no metadata to read it from. A test holds pyproject.toml to it."""

VERSION = "0.1.0"
