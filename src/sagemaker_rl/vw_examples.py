"""Provide the public names of `sagemaker_rl.vw.examples` under the module name that training scripts import."""

from sagemaker_rl.vw.examples import ExamplesError, example, features, from_csv, from_json_lines, from_vw, read

__all__ = ["ExamplesError", "example", "features", "from_csv", "from_json_lines", "from_vw", "read"]
