import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Run torch on one thread: the models are small, and threads that wait for each other are slow.

    On a machine whose cores are busy, with pytest-xdist for one, two threads take many times as
    long as one.
    """
    torch.set_num_threads(1)
