"""The Docker engine as the place of training jobs and endpoints: their hosts, networks and volumes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rlimages.docker_engine import DockerEngine, answering
from rlimages.host import ContainerHost, open_hosts
from rlimages.hosting import Endpoint
from rlimages.instance import Instance, open_instance, published
from rlimages.job import Job

ENDPOINT_LABEL = "rlimages.endpoint"
"""On the containers of endpoints that anyone may invoke: the name of the endpoint."""


class JobEngine(DockerEngine):
    """A Docker engine that also gives what jobs and endpoints run on."""

    @contextmanager
    def hosts(self, job: Job) -> Iterator[tuple[ContainerHost, ...]]:
        """The hosts of a training job, not yet started; they and their network are gone at the end."""
        with answering(), open_hosts(self._client, job, self._labels) as hosts:
            yield hosts

    @contextmanager
    def instance(self, endpoint: Endpoint) -> Iterator[Instance]:
        """The container of an endpoint, not yet started; it and its volume are gone at the end."""
        labels = self._labels if endpoint.is_batch else {**self._labels, ENDPOINT_LABEL: endpoint.name}
        with answering(), open_instance(self._client, endpoint, labels) as instance:
            yield instance

    def endpoints(self) -> Mapping[str, str]:
        """Name -> address of the endpoints that run on this machine."""
        with answering():
            running = self._client.containers.list(filters={"label": ENDPOINT_LABEL}, ignore_removed=True)
            found = {container.labels[ENDPOINT_LABEL]: published(container) for container in running}
        return {name: address for name, address in sorted(found.items()) if address}
