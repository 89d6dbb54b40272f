"""The one step that setup.cfg cannot state: weights_manifest.json, which lies at the top, goes into the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MANIFEST = "weights_manifest.json"


class BuildWithManifest(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            self.mkpath(str(Path(self._target).parent))
            self.copy_file(MANIFEST, self._target)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), self._target]

    def get_output_mapping(self):
        return {**super().get_output_mapping(), self._target: MANIFEST}

    @property
    def _target(self):
        return str(Path(self.build_lib, "mpncov_zoo", MANIFEST))


setup(cmdclass={"build_py": BuildWithManifest})
