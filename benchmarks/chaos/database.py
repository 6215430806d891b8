"""The database under a storm: LanceDB, which lives in the indexer, or an Elasticsearch that suffers too."""

from __future__ import annotations

import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.chaos.plan import Strike
from tests.integration.test_elasticsearch_faults import Node
from tests.servers import free_port, node_folder


class Database(ABC):
    """Where the runs write. `strike` may return before the database is up again: `down` tells."""

    #: Whether it has processes of its own.
    strikable = False

    #: It doesn't answer now, through a strike.
    down = False

    #: When it was last struck or came up again, by the monotonic clock.
    changed = 0.0

    @abstractmethod
    def url(self, round_number: int) -> str:
        """An index of its own for each round."""

    def strike(self, strike: Strike) -> bool:
        """Hit it; False where it is down already, or has no process."""
        return False

    def settle(self) -> None:  # noqa: B027 - most databases have nothing to wait for
        """Wait until it is up."""

    @abstractmethod
    def forget(self, round_number: int) -> None:
        """The round's index is not needed any more."""


class Lance(Database):
    """A directory for each round."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, round_number: int) -> str:
        return f"lancedb://{self._folder}/db-{round_number}"

    def forget(self, round_number: int) -> None:
        shutil.rmtree(self._folder / f"db-{round_number}", ignore_errors=True)


class Elastic(Database):
    """A node of the storm's own. It is struck in a thread, because its start takes long."""

    strikable = True

    def __init__(self, node: Node) -> None:
        self._node = node
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def url(self, round_number: int) -> str:
        return f"elasticsearch://127.0.0.1:{self._node.port}/storm-{round_number}"

    def strike(self, strike: Strike) -> bool:
        self._raise()
        if self.down:
            return False
        self.down, self.changed = True, time.monotonic()
        self._thread = threading.Thread(target=self._suffer, args=(strike,), name="database")
        self._thread.start()
        return True

    def _suffer(self, strike: Strike) -> None:
        try:
            if strike.signal == "SIGSTOP":
                stopped = self._node.processes()
                for process in stopped:
                    process.suspend()
                time.sleep(strike.pause)
                for process in stopped:
                    with suppress(psutil.NoSuchProcess):
                        process.resume()
            else:
                if strike.signal == "SIGKILL":
                    self._node.kill()
                else:
                    self._node.stop()
                time.sleep(strike.pause)
                self._node.start()
        except BaseException as error:
            self._error = error
        self.changed = time.monotonic()
        self.down = False

    def settle(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise RuntimeError(f"the storm could not restart its own server: {self._error}")

    def forget(self, round_number: int) -> None:
        with self._node.client() as client:
            for index in client.indices.get(index=f"storm-{round_number}-*"):
                client.indices.delete(index=index)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[Database]:
    """LanceDB below the folder, or an 8.19 node that lives as long as the block."""
    if kind == "lancedb":
        yield Lance(folder)
        return
    with node_folder() as data:
        node = Node(data, free_port())
        try:
            node.start()
            elastic = Elastic(node)
            yield elastic
            elastic.settle()
        finally:
            node.stop()
