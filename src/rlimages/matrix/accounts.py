"""Look up the AWS account and DNS suffix of SageMaker's ECR registries in each region."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from rlimages.errors import UsageError, did_you_mean
from rlimages.system.cache import cached
from rlimages.system.files import read_data


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The AWS accounts that publish SageMaker's images, by region. Each table is for one group of images.

    The file `accounts.yaml` of this package has the tables and names their source.
    """

    domains: Mapping[str, str]
    """Region prefix -> DNS suffix of the AWS partition: `cn-` -> `amazonaws.com.cn`.

    The empty prefix is for all others.
    """
    default_region: str
    """The region whose registries are used if no other region is given."""
    tables: Mapping[str, Mapping[str, str]]
    """Table name -> region -> twelve-digit AWS account."""

    def domain(self, region: str) -> str:
        """Return the DNS suffix of `region`, such as `amazonaws.com`.

        The longest matching prefix in `domains` decides.
        """
        return self.domains[max((prefix for prefix in self.domains if region.startswith(prefix)), key=len)]

    def account(self, table: str, region: str) -> str:
        """Return the AWS account that publishes the images of `table` in `region`.

        Raise `UsageError` if the table has no account for this region.
        """
        regions = self.tables[table]
        if region not in regions:
            hint = did_you_mean(region, regions) or f"; its regions are {', '.join(sorted(regions))}"
            raise UsageError(f"SageMaker publishes no '{table}' images in region '{region}'{hint}")
        return regions[region]

    def host(self, table: str, region: str) -> str:
        """Return the host of the ECR registry that has the images of `table` in `region`.

        Raise `UsageError` if the table has no account for this region.
        """
        return ecr_host(self.account(table, region), region, self.domain(region))

    def build_arguments(self, table: str, region: str) -> dict[str, str]:
        """Return the values of the build arguments `account`, `region` and `domain`.

        A Dockerfile's FROM line makes the host of its base image from them. `table` is the table of the base image.
        Raise `UsageError` if it has no account for this region.
        """
        return {"account": self.account(table, region), "region": region, "domain": self.domain(region)}


def ecr_host(account: str, region: str, domain: str) -> str:
    """Return the host of an ECR registry: `<account>.dkr.ecr.<region>.<domain>`."""
    return f"{account}.dkr.ecr.{region}.{domain}"


@cache
def load_accounts() -> Accounts:
    """Return the account tables of this package. They are parsed once, and then read from the cache on disk."""
    text = read_data("accounts.yaml")
    return cached(text, Accounts, lambda: _parse(text), os.environ)


def _parse(text: str) -> Accounts:
    """Return the account tables in `text`, the content of `accounts.yaml`."""
    import yaml  # only needed when the cache does not have the tables

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    raw: dict[str, Any] = yaml.load(text, Loader=loader)
    tables = {
        name: MappingProxyType({**dict.fromkeys(table["regions"], table["default"]), **table.get("others", {})})
        for name, table in raw["tables"].items()
    }
    return Accounts(
        domains=MappingProxyType(raw["domains"]),
        default_region=raw["default_region"],
        tables=MappingProxyType(tables),
    )
