"""The configuration of a run: the schema, the built-in files, and the reader from YAML to a checked `Config`."""

from tenor.config.describe import FieldDescription, describe_fields, to_yaml
from tenor.config.loading import builtin_names, builtin_text, load_config
from tenor.config.schema import Config

__all__ = ["Config", "FieldDescription", "builtin_names", "builtin_text", "describe_fields", "load_config", "to_yaml"]
