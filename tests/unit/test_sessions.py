"""What a served network keeps of its graph."""

import sys

from service.inference.sessions import ServedNetwork
from tests.formats import graph


def test_bytes_of_the_graph_are_not_kept_beside_the_network() -> None:
    content = graph(3, 2)
    before = sys.getrefcount(content)
    network = ServedNetwork(content)
    assert sys.getrefcount(content) == before
    assert network.memory_bytes > 2 * len(content)
